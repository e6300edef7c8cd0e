"""Statements that break each invariant, by its name, and the id that the audit must report.

Both are filled in with the ids of `Books`. A break that the schema would refuse drops the
constraint first; all of it is rolled back.
"""

from typing import NamedTuple


class Break(NamedTuple):
    """The statements, and the `Books` field whose id must be reported."""

    subject: str
    statements: str


PARKED = """
insert into parked_messages (
    handler, topic, partition, "offset", order_id, state, holds_order, headers, error, attempts,
    parked_at
)
values (
    'stock.reserve', 'order.paid', 0, {1}, '{0}', '{2}', true, '{{{{}}}}', 'bad', 1,
    now() - interval '1 hour'
);
"""

BREAKS: dict[str, list[Break]] = {
    "orders_move_on": [
        Break("waiting", "update orders set status = 'PAID' where id = '{waiting}'"),
        Break(
            "unpaid",
            """
            update orders set status = 'CREATED', cancel_reason = null where id = '{unpaid}';
            update payments set status = 'PENDING' where order_id = '{unpaid}'
            """,
        ),
    ],
    "failed_payments_cancel_their_orders": [
        Break(
            "unpaid",
            "update orders set status = 'CREATED', cancel_reason = null where id = '{unpaid}'",
        )
    ],
    "unpaid_orders_have_a_deadline": [
        Break("waiting", "delete from order_deadlines where order_id = '{waiting}'")
    ],
    "deadlines_are_kept": [
        Break(
            "waiting",
            """
            update order_deadlines set due_at = now() - interval '1 hour'
            where order_id = '{waiting}'
            """,
        )
    ],
    "totals_are_the_sum_of_their_lines": [
        Break("completed", "update orders set total_minor = 1 where id = '{completed}'"),
        Break("waiting", "delete from order_items where order_id = '{waiting}'"),
    ],
    "keys_have_their_answers": [
        Break("user", "update idempotency_keys set answer = null where user_id = '{user}'")
    ],
    "expired_keys_are_forgotten": [
        Break(
            "user",
            """
            update idempotency_keys set expires_at = now() - interval '1 hour'
            where user_id = '{user}'
            """,
        )
    ],
    "ended_orders_are_told": [
        Break("completed", "delete from notifications where order_id = '{completed}'"),
        Break("unpaid", "update notifications set sent_at = null where order_id = '{unpaid}'"),
        Break(
            "completed",
            "delete from notifications where order_id = '{completed}' and channel = 'log'",
        ),
    ],
    "customers_are_told_the_truth": [
        Break(
            "completed",
            "insert into notifications values ('{completed}', 'cancelled', 'log')",
        )
    ],
    "notifications_are_sent": [
        Break(
            "completed",
            """
            update notifications set sent_at = null, due_at = now() - interval '1 hour'
            where order_id = '{completed}' and channel = 'mail'
            """,
        )
    ],
    "parked_messages_are_settled": [
        Break("completed", PARKED.format("{completed}", 7, "PARKED")),
        Break("completed", PARKED.format("{completed}", 7, "WAITING")),
    ],
    "messages_wait_behind_a_parked_one": [
        Break(
            "completed",
            PARKED.format("{completed}", 7, "WAITING") + PARKED.format("{completed}", 8, "PARKED"),
        ),
        Break(
            "completed",
            PARKED.format("{completed}", 7, "WAITING") + PARKED.format("{waiting}", 6, "PARKED"),
        ),
        Break(
            "completed",
            PARKED.format("{completed}", 7, "WAITING")
            + PARKED.format("{completed}", 6, "PARKED").replace("stock.reserve", "orders.complete"),
        ),
    ],
    "completed_orders_hold_their_stock": [
        Break("completed", "delete from reservations where order_id = '{completed}'"),
        Break(
            "completed",
            "update reservations set outcome = 'RELEASED' where order_id = '{completed}'",
        ),
    ],
    "reservations_agree_with_their_orders": [
        Break(
            "completed",
            "update reservations set outcome = 'REJECTED' where order_id = '{completed}'",
        ),
        Break("waiting", "insert into reservations values ('{waiting}', 'RESERVED', now())"),
        Break(
            "completed",
            "update reservations set outcome = 'RELEASED' where order_id = '{completed}'",
        ),
    ],
    "cancelled_orders_give_back_their_stock": [
        Break(
            "released",
            "update reservations set outcome = 'RESERVED' where order_id = '{released}'",
        )
    ],
    "stock_is_what_was_stocked_minus_what_is_reserved": [
        Break("product", "update products set available = available - 1 where id = '{product}'"),
        Break("product", "update products set stocked = stocked + 1 where id = '{product}'"),
        Break(
            "product",
            "update reservations set outcome = 'RESERVED' where order_id = '{released}'",
        ),
        Break("product", "delete from reservations"),
    ],
    "stock_is_never_oversold": [
        Break(
            "product",
            """
            alter table products drop constraint products_check;
            update products set available = -1 where id = '{product}'
            """,
        ),
        Break(
            "product",
            """
            alter table products drop constraint products_check;
            update products set available = stocked + 1 where id = '{product}'
            """,
        ),
    ],
    "reserved_pieces_are_of_the_catalogue": [
        Break("completed", "delete from products where id = '{product}'")
    ],
    "sequences_count_to_the_version": [
        Break("completed", "delete from outbox where order_id = '{completed}' and sequence = 2"),
        Break("completed", "update orders set version = version + 1 where id = '{completed}'"),
        Break(
            "completed",
            """
            update outbox set sequence = 2, occurred_at = occurred_at - interval '40 days'
            where order_id = '{completed}' and sequence = 3
            """,
        ),
        Break(
            "completed",
            "update outbox set sequence = 100 where order_id = '{completed}' and sequence = 2",
        ),
        Break("waiting", "delete from outbox where order_id = '{waiting}'"),
    ],
    "histories_lead_to_their_status": [
        Break(
            "completed",
            """
            update orders set status = 'CANCELLED', cancel_reason = 'none' where id = '{completed}'
            """,
        ),
        Break(
            "completed",
            """
            update outbox set topic = 'inventory.rejected'
            where order_id = '{completed}' and topic = 'inventory.reserved'
            """,
        ),
        Break(
            "released",
            """
            update outbox set topic = 'order.cancelled'
            where order_id = '{released}' and topic = 'payment.refunded'
            """,
        ),
        Break("waiting", "delete from outbox where order_id = '{waiting}'"),
        Break(
            "completed",
            """
            update outbox set topic = 'inventory.rejected'
            where order_id = '{completed}' and topic = 'payment.succeeded'
            """,
        ),
    ],
    "events_belong_to_orders": [
        Break(
            "product",
            "update outbox set order_id = '{product}' where order_id = '{completed}'",
        )
    ],
    "event_ids_are_given_once": [
        Break(
            "completed",
            """
            update outbox set event_id = (
                select event_id from outbox where order_id = '{completed}' and sequence = 1
            )
            where order_id = '{completed}' and sequence = 2
            """,
        )
    ],
    "events_are_sent": [
        Break(
            "completed",
            "update outbox set published_at = null where order_id = '{completed}' and sequence = 6",
        )
    ],
    "events_are_sent_in_sequence": [
        Break(
            "completed",
            "update outbox set published_at = null where order_id = '{completed}' and sequence = 2",
        ),
        Break(
            "completed",
            """
            update outbox set published_at = now() - interval '1 day'
            where order_id = '{completed}' and sequence = 2
            """,
        ),
    ],
}

INNOCENT: dict[str, list[str]] = {
    "orders_move_on": [
        """
        update orders set status = 'CREATED', cancel_reason = null where id = '{unpaid}';
        update payments set status = 'PENDING', provider = 'stripe' where order_id = '{unpaid}'
        """
    ],
    "messages_wait_behind_a_parked_one": [
        PARKED.format("{completed}", 7, "PARKED") + PARKED.format("{completed}", 8, "WAITING")
    ],
    "stock_is_never_oversold": ["update products set available = stocked"],
}
"""Statements that look much like a break, and break nothing."""
