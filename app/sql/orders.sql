-- name: lock_orders(ids, money_of, stock_of)
-- Lock and read orders; those in money_of with their payments, and those in stock_of with the lines
-- that inventory has not decided on, as JSON.
select * from lock_orders(:ids, :money_of, :stock_of);

-- name: lock_whole_order(id)^
-- Lock and read one order with its lines.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items
from orders o
where o.id = :id
for no key update;

-- name: whole_orders(ids)
-- Orders with their lines, and the id of the live payment attempt, which prevents another one.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items, (
    -- Not exists(): PostgreSQL would compute it from a list of all such payments.
    select p.id from payments p
    where p.order_id = o.id and p.requested and p.status in ('PENDING', 'SUCCEEDED')
) as live_payment
from orders o
where o.id = any(:ids::uuid[]);

-- name: get_order(id)^
-- One order with its lines.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items
from orders o
where o.id = :id;

-- name: list_orders_of_user(user_id, statuses, before, before_id, page_size)
-- A user's orders with one of the statuses, newest first, after the position (before, before_id).
-- Each status is a range of one index, so every page of the list costs the same.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items
from (
    select page.*
    from unnest(:statuses::text[]) as wanted (status)
    cross join lateral (
        select * from orders
        where user_id = :user_id and orders.status = wanted.status
          and (created_at, id) < (
              coalesce(:before::timestamptz, 'infinity'),
              coalesce(:before_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
          )
        order by created_at desc, id desc
        limit :page_size
    ) as page
    order by page.created_at desc, page.id desc
    limit :page_size
) as o
order by o.created_at desc, o.id desc;

-- name: list_orders(statuses, before, before_id, page_size)
-- Orders with one of the statuses, newest first, after the position (before, before_id).
-- Each status is a range of one index, so every page of the list costs the same.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items
from (
    select page.*
    from unnest(:statuses::text[]) as wanted (status)
    cross join lateral (
        select * from orders
        where orders.status = wanted.status
          and (created_at, id) < (
              coalesce(:before::timestamptz, 'infinity'),
              coalesce(:before_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
          )
        order by created_at desc, id desc
        limit :page_size
    ) as page
    order by page.created_at desc, page.id desc
    limit :page_size
) as o
order by o.created_at desc, o.id desc;

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
