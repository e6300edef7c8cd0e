"""Queries for what must not be in PostgreSQL once the system is at rest."""

COMPLETED = (
    "order.created order.payment_requested payment.succeeded order.paid"
    " inventory.reserved order.completed"
)
UNPAID = "order.created order.payment_requested payment.failed order.cancelled"
UNSTOCKED = (
    "order.created order.payment_requested payment.succeeded order.paid"
    " inventory.rejected order.cancelled payment.refund_requested payment.refunded"
)
"""The full event histories an order may have; each event occurs once."""
BY_HAND = (
    "^order.created( order.payment_requested)? order.cancelled$|"
    "^order.created order.payment_requested payment.succeeded( order.paid( inventory.reserved)?)?"
    " order.cancelled payment.refund_requested payment.refunded$"
)
"""The histories of an order that was cancelled on request or expired, as a regular expression."""

FAULTS = {
    "an order has not ended": """
        select id, status, version from orders where status not in ('COMPLETED', 'CANCELLED')
    """,
    "an order's history is none of those that end": f"""
        select o.id, o.status, string_agg(e.topic, ' ' order by e.sequence) as history
        from orders o left join outbox e on e.order_id = o.id
        group by o.id
        having coalesce(string_agg(e.topic, ' ' order by e.sequence), '') !~ case
            when o.status = 'COMPLETED' then '^{COMPLETED}$'
            when bool_or(e.topic = 'payment.failed') then '^{UNPAID}$'
            when o.cancel_reason = 'Out of stock' then '^{UNSTOCKED}$'
            else '{BY_HAND}'
        end
    """,
    "an order's sequences are not 1 to its version": """
        select o.id, o.version, array_agg(e.sequence order by e.sequence) as sequences
        from orders o left join outbox e on e.order_id = o.id
        group by o.id
        having array_agg(e.sequence order by e.sequence)
            <> array(select generate_series(1, o.version))
    """,
    "a type of event happened twice to an order": """
        select order_id, topic, count(*) from outbox group by order_id, topic having count(*) > 1
    """,
    "an event belongs to no order": """
        select event_id, topic from outbox where order_id not in (select id from orders)
    """,
    "an event id was given twice": """
        select event_id, count(*) from outbox group by event_id having count(*) > 1
    """,
    "an event is not published": """
        select id, order_id, sequence, topic from outbox where published_at is null
    """,
    "an event was published before its forerunner": """
        select late.order_id, late.sequence, late.topic
        from outbox early join outbox late using (order_id)
        where early.sequence < late.sequence and early.published_at >= late.published_at
    """,
    "an order is completed otherwise than by one payment of its exact total": """
        select o.id, o.status, array_agg(p.amount_minor) as amounts, o.total_minor
        from orders o left join payments p on p.order_id = o.id and p.status = 'SUCCEEDED'
        group by o.id
        having (o.status = 'COMPLETED')
            <> (count(p.id) = 1 and coalesce(sum(p.amount_minor), -1) = o.total_minor
                and bool_and(p.currency = o.currency))
    """,
    "an order is completed otherwise than with its stock reserved": """
        select o.id, o.status, r.outcome
        from orders o left join reservations r on r.order_id = o.id
        where (o.status = 'COMPLETED') <> (coalesce(r.outcome, '') = 'RESERVED')
    """,
    "money of a cancelled order was not given back": """
        select o.id, p.id as payment, p.status
        from orders o join payments p on p.order_id = o.id
        where o.status = 'CANCELLED' and p.status not in ('REFUNDED', 'FAILED', 'VOIDED')
    """,
    "captured money is not where it belongs": """
        select o.id, o.status, p.id as payment, p.status as payment_status
        from outbox e join orders o on o.id = e.order_id
            join payments p on p.id = (e.payload ->> 'paymentId')::uuid
        where e.topic = 'payment.succeeded'
            and p.status <> case when o.status = 'COMPLETED' then 'SUCCEEDED' else 'REFUNDED' end
    """,
    "captured money is neither kept nor refunded": """
        select id, order_id, status, captured_minor, refunded_minor from payments
        where refunded_minor <> case when status = 'SUCCEEDED' then 0 else captured_minor end
    """,
    "a payment's money is not what was reported of it": """
        select p.id, p.status, p.captured_minor, p.refunded_minor, json_agg(e) as reported
        from payments p left join provider_events e on e.payment_id = p.id
        group by p.id
        having p.captured_minor <> coalesce(
                max(e.amount_minor) filter (where e.kind = 'captured'), 0)
            or p.refunded_minor <> coalesce(
                sum(e.amount_minor) filter (where e.kind = 'refund'), 0)
    """,
    "a payment was refunded otherwise than once, as it was asked for and told": """
        select p.id, p.status, p.refunded_minor, p.told_minor, array_agg(r.amount_minor) as asked
        from payments p left join refunds r on r.payment_id = p.id
        group by p.id
        having p.refunded_minor <> p.told_minor or count(r.id) > 1
            or p.refunded_minor <> coalesce(sum(r.amount_minor), 0)
    """,
    "stock is not what was stocked minus what was reserved": """
        select p.name, p.stocked, p.available, coalesce(sum(taken.quantity), 0) as reserved
        from products p left join (
            select product_id, quantity from order_items join reservations using (order_id)
            where outcome = 'RESERVED'
        ) taken on taken.product_id = p.id
        group by p.id
        having p.available <> p.stocked - coalesce(sum(taken.quantity), 0) or p.available < 0
    """,
    "an ended order was not told exactly once": """
        select o.id, o.status, array_agg(n.kind) as kinds
        from orders o left join notifications n on n.order_id = o.id
        group by o.id
        having count(n.order_id) <> 1 or bool_or(lower(o.status) <> n.kind or n.sent_at is null)
    """,
}
"""Queries by the fault that each detects: the rows a query returns are at fault."""
