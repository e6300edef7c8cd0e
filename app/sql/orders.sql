-- name: lock_orders(ids, money_of, stock_of)
-- Lock and read orders; those in money_of with their payments, and those in stock_of with the lines
-- that inventory has not decided on, as JSON; PAID ones with inventory's decision, if it has been
-- committed before the statement began, as the decision of every event has.
select o.*, case when o.status = 'PAID' then (
    select outcome from reservations where order_id = o.id
) end as decision
from lock_orders(:ids, :money_of, :stock_of) as o;

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
