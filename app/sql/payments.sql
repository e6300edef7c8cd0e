-- name: insert_payment(id, order_id, provider, amount_minor, currency, now)!
-- A pending attempt. The unique index lets an order have one live attempt.
insert into payments (id, order_id, provider, amount_minor, currency, status, created_at, updated_at)
values (:id, :order_id, :provider, :amount_minor, :currency, 'PENDING', :now, :now);

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

-- name: save_payments(ids, statuses, reasons, now)!
-- Move attempts on.
update payments
set status = changed.status, failure_reason = changed.reason, updated_at = :now
from unnest(:ids::uuid[], :statuses::text[], :reasons::text[]) as changed (id, status, reason)
where payments.id = changed.id;
