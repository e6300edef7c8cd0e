-- name: move_deadline(order_id, due_at)!
-- Move a locked order's deadline to `due_at`, unless it is later already; insert it if there is none.
insert into order_deadlines (order_id, due_at) values (:order_id, :due_at)
on conflict (order_id) do update set due_at = greatest(order_deadlines.due_at, excluded.due_at);

-- name: postpone_deadline(order_id, due_at)!
-- Move a locked order's deadline to `due_at`, unless it is later already.
update order_deadlines set due_at = greatest(due_at, :due_at) where order_id = :order_id;

-- name: advance_deadline(order_id, due_at)!
-- Move a locked order's deadline to `due_at`, unless it is earlier already.
update order_deadlines set due_at = least(due_at, :due_at) where order_id = :order_id;

-- name: lock_due_orders(now, batch, quarantined)
-- Lock and read orders whose deadline has passed; skip those that are locked by another transaction, and
-- those in quarantine.
select o.id, o.user_id, o.status, o.version, o.total_minor, o.currency, o.customer_email,
    o.cancel_reason, o.updated_at
from order_deadlines d
join orders o on o.id = d.order_id
where d.due_at <= :now and d.order_id <> all(:quarantined::uuid[])
order by d.due_at
limit :batch
for no key update of o skip locked;

-- name: settle_deadlines(order_ids, unpaid, now, later)
-- Delete the passed deadlines of locked orders, but postpone those of unpaid orders with a payment in
-- progress; a checkout whose session is not open yet does not count as one. Returns the orders whose
-- deadline was deleted, and those with an open checkout together with its payment. Checks the deadlines
-- again, because they may have moved before the orders were locked.
with in_payment as (
    select order_id, id, session_id is not null and status = 'PENDING' as is_open
    from payments
    where order_id = any(:unpaid::uuid[]) and status in ('PENDING', 'SUCCEEDED')
      and (provider <> 'stripe' or session_id is not null)
), postponed as (
    update order_deadlines set due_at = :later
    where due_at <= :now and order_id in (select order_id from in_payment)
    returning order_id
), passed as (
    delete from order_deadlines
    where due_at <= :now
      and order_id = any(:order_ids::uuid[])
      and order_id not in (select order_id from in_payment)
    returning order_id
)
select order_id, null::uuid as open_payment from passed
union all
select order_id, id from postponed join in_payment using (order_id) where is_open;
