-- name: lock_accounts(order_ids)
-- All payments of locked orders, each with what its provider reported and the refunds asked for.
select id, order_id, provider, amount_minor, currency, status, failure_reason, requested, session_id,
    payment_intent, checkout_url, expires_at, captured_minor, captured_currency, refunded_minor,
    told_minor, refund_attempts,
    (
        select json_agg(json_build_array(
            kind, amount_minor, currency, refund, refund_status, request_id, reason
        ))
        from provider_events where payment_id = payments.id and kind is not null
    ) as facts,
    (
        select json_agg(json_build_array(id, amount_minor, refused_reason))
        from refunds where payment_id = payments.id
    ) as refunds
from payments
where order_id = any(:order_ids::uuid[])
order by created_at, id
for no key update;

-- name: paid_orders(order_ids)
-- Those of the orders that have money they may keep.
select distinct order_id from payments
where order_id = any(:order_ids::uuid[]) and status = 'SUCCEEDED';

-- name: states_of_payments(ids)
-- Where payments stand.
select id, order_id, status from payments where id = any(:ids::uuid[]);

-- name: order_of_payment(id)$
-- The order that a payment is for.
select order_id from payments where id = :id;
