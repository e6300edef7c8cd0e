"""Statements that break each invariant of money; see `breaks`."""

from tests.integration.breaks import Break

PAYMENT = "update payments set {} where order_id = '{}'"
CALL = """
insert into provider_calls (kind, subject_id, order_id, payment_id, request_id, due_at, attempts)
select 'expire', id, order_id, id, 'a request', {} from payments where order_id = '{}'
"""
REPORT = """
insert into provider_events (
    provider, event_id, type, created_at, received_at, payment_id, kind, amount_minor, currency,
    provider_refund_id, refund_status, refund_id
)
select 'internal', gen_random_uuid(), 'a report', now(), now(), p.id, '{1}', {2}, 'PLN', {3}
from payments p left join refunds r on r.payment_id = p.id
where order_id = '{0}';
"""
NO_REFUND = "null, null, null"
FAILED_REFUND = "r.id, 'failed', r.id"
TWICE = """
insert into outbox (
    event_id, topic, order_id, sequence, request_id, occurred_at, payload, published_at
)
select gen_random_uuid(), '{}', order_id, sequence + n, request_id, occurred_at, payload, now()
from outbox, generate_series(100, 101) as n
where order_id = '{{unstocked}}' and sequence = 1
"""

BREAKS: dict[str, list[Break]] = {
    "orders_are_paid_exactly_once": [
        Break("completed", "delete from payments where order_id = '{completed}'"),
        Break("completed", PAYMENT.format("captured_minor = captured_minor - 1", "{completed}")),
        Break("completed", PAYMENT.format("captured_currency = 'EUR'", "{completed}")),
        Break(
            "completed",
            """
            insert into payments (
                id, order_id, provider, amount_minor, currency, status, requested, created_at,
                updated_at
            )
            select gen_random_uuid(), order_id, 'stripe', 0, currency, status, false, now(), now()
            from payments where order_id = '{completed}'
            """,
        ),
        Break("waiting", "update orders set status = 'PAID' where id = '{waiting}'"),
    ],
    "cancelled_orders_keep_no_money": [
        Break("unstocked", PAYMENT.format("status = 'SUCCEEDED'", "{unstocked}")),
        Break("released", PAYMENT.format("status = 'REFUNDING'", "{released}")),
    ],
    "captured_money_is_kept_or_refunded": [
        Break("unstocked", PAYMENT.format("refunded_minor = 0", "{unstocked}")),
        Break("completed", PAYMENT.format("status = 'VOIDED'", "{completed}")),
    ],
    "no_refund_is_left_to_an_operator": [
        Break(
            "unstocked",
            PAYMENT.format("status = 'REFUND_FAILED', refunded_minor = 0", "{unstocked}"),
        ),
    ],
    "money_is_what_was_reported": [
        Break("completed", PAYMENT.format("captured_minor = 1", "{completed}")),
        Break("unstocked", PAYMENT.format("refunded_minor = 1", "{unstocked}")),
        Break("completed", "delete from provider_events where order_id = '{completed}'"),
        Break(
            "unstocked",
            """
            update provider_events set refund_status = 'failed'
            where order_id = '{unstocked}' and kind = 'refund'
            """,
        ),
        Break(
            "completed",
            """
            insert into provider_events (
                provider, event_id, type, created_at, received_at, payment_id, kind, amount_minor
            )
            select 'internal', 'all', 'all', now(), now(), id, 'refunded_in_all', 1
            from payments where order_id = '{completed}'
            """,
        ),
        Break("completed", PAYMENT.format("captured_currency = 'EUR'", "{completed}")),
        Break("completed", REPORT.format("{completed}", "captured", 1_000_000, NO_REFUND)),
        Break(
            "completed",
            REPORT.format("{completed}", "refunded_in_all", 1, NO_REFUND)
            + REPORT.format("{completed}", "refunded_in_all", 0, NO_REFUND),
        ),
        Break(
            "unstocked",
            """
            insert into provider_events
            select provider, event_id || ' again', type, created_at, received_at, order_id,
                attempt_id, session_id, payment_intent, payment_id, kind, amount_minor, currency,
                provider_refund_id, 'failed'
            from provider_events where order_id = '{unstocked}' and kind = 'refund'
            """,
        ),
    ],
    "no_more_is_asked_back_than_came": [
        Break(
            "unstocked",
            """
            insert into refunds (id, payment_id, amount_minor, created_at)
            select gen_random_uuid(), id, 1, now() from payments where order_id = '{unstocked}'
            """,
        )
    ],
    "refunds_are_told": [
        Break("unstocked", PAYMENT.format("announced_minor = 0", "{unstocked}")),
        Break(
            "unstocked",
            """
            delete from outbox where order_id = '{unstocked}' and topic = 'payment.refunded'
            """,
        ),
        Break(
            "unstocked",
            PAYMENT.format("announced_minor = 1, refunded_minor = 1", "{unstocked}"),
        ),
    ],
    "kept_payments_are_told": [
        Break(
            "completed",
            """
            delete from outbox where order_id = '{completed}' and topic = 'payment.succeeded'
            """,
        ),
        Break(
            "completed",
            """
            update outbox set payload = '{{"paymentId": "another"}}'
            where order_id = '{completed}' and topic = 'payment.succeeded'
            """,
        ),
    ],
    "payment_events_happen_once": [
        Break("unstocked", TWICE.format(topic))
        for topic in (
            *("order.payment_requested", "order.checkout_requested", "payment.succeeded"),
            *("payment.failed", "payment.refund_requested"),
        )
    ],
    "attempts_end_with_their_orders": [
        Break("unpaid", PAYMENT.format("status = 'PENDING'", "{unpaid}")),
        Break("completed", PAYMENT.format("status = 'PENDING'", "{completed}")),
    ],
    "checkouts_are_opened": [
        Break(
            "unpaid",
            PAYMENT.format("status = 'PENDING', provider = 'stripe'", "{unpaid}"),
        )
    ],
    "calls_are_made": [
        Break("unstocked", CALL.format("now() - interval '1 hour', 1", "{unstocked}")),
        Break("unstocked", CALL.format("now() + interval '1 hour', 16", "{unstocked}")),
    ],
    "refunds_are_asked_for": [
        Break("unstocked", PAYMENT.format("provider = 'stripe'", "{unstocked}"))
    ],
    "reports_are_placed": [
        Break(
            "unstocked",
            """
            update provider_events set payment_id = null, session_id = 'cs_1'
            where order_id = '{unstocked}'
            """,
        ),
        *(
            Break(
                "unstocked",
                f"""
                update payments set {column} = 'an id' where order_id = '{{unstocked}}';
                update provider_events set payment_id = null, order_id = null, {column} = 'an id'
                where order_id = '{{unstocked}}' and kind = 'captured'
                """,
            )
            for column in ("session_id", "payment_intent")
        ),
    ],
    "reports_belong_to_payments": [
        Break("unstocked", PAYMENT.format("provider = 'stripe'", "{unstocked}")),
        Break(
            "user",
            "update provider_events set payment_id = '{user}' where order_id = '{completed}'",
        ),
    ],
}

INNOCENT: dict[str, list[str]] = {
    "money_is_what_was_reported": [
        REPORT.format("{completed}", "refund", 1, "'re_1', 'pending', null")
        + REPORT.format("{completed}", "refunded_in_all", 1, NO_REFUND)
    ],
    "no_more_is_asked_back_than_came": [
        REPORT.format("{unstocked}", "refund", 1, FAILED_REFUND)
        + """
        insert into refunds (id, payment_id, amount_minor, created_at)
        select gen_random_uuid(), id, captured_minor, now()
        from payments where order_id = '{unstocked}'
        """
    ],
    "refunds_are_told": [
        PAYMENT.format("announced_minor = 1, refunded_minor = 1", "{unstocked}")
        + ";"
        + REPORT.format("{unstocked}", "refund", 1, FAILED_REFUND)
    ],
    "calls_are_made": [CALL.format("now() + interval '1 hour', 15", "{unstocked}")],
    "refunds_are_asked_for": [
        """
        update payments set provider = 'stripe' where order_id = '{unstocked}';
        insert into provider_calls (kind, subject_id, order_id, payment_id, request_id, due_at)
        select 'refund', r.id, order_id, p.id, 'a request', now()
        from refunds r join payments p on p.id = r.payment_id where order_id = '{unstocked}'
        """
    ],
    "reports_are_placed": [
        "update provider_events set session_id = event_id where order_id = '{unstocked}'"
    ],
}
"""Statements that look much like a break, and break nothing."""
