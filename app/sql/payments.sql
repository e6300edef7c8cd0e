-- name: lock_payments(ids, status)
-- Those of the attempts that stand at `status`.
select id, order_id, provider, amount_minor, currency
from payments
where id = any(:ids::uuid[]) and status = :status
order by id
for no key update;

-- name: lock_captured(order_ids)
-- The captured payments of the orders.
select id, order_id, provider, amount_minor, currency
from payments
where order_id = any(:order_ids::uuid[]) and status = 'SUCCEEDED'
order by id
for no key update;
