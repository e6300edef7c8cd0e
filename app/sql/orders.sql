-- name: insert_order(id, user_id, customer_email, total_minor, currency, now, product_ids, quantities, prices)!
-- A new order, version 1, with its lines in array order.
with placed as (
    insert into orders (id, user_id, customer_email, status, total_minor, currency, version, created_at, updated_at)
    values (:id, :user_id, :customer_email, 'CREATED', :total_minor, :currency, 1, :now, :now)
    returning id
)
insert into order_items (order_id, line, product_id, quantity, unit_price_minor)
select placed.id, line, product_id, quantity, price
from placed, unnest(:product_ids::uuid[], :quantities::bigint[], :prices::bigint[])
    with ordinality as item (product_id, quantity, price, line);

-- name: lock_orders(ids)
-- The orders, each under its row lock, locked in id order so that no two batches wait in a circle.
select id, user_id, status, version, total_minor, currency, customer_email, cancel_reason, updated_at
from orders
where id = any(:ids::uuid[])
order by id
for no key update;

-- name: lock_order(id)^
-- One order with its lines, under its row lock.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items
from orders o
where o.id = :id
for no key update;

-- name: get_order(id)^
-- One order with its lines.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items
from orders o
where o.id = :id;

-- name: list_orders(user_id, status, before, before_id, page_size)
-- A user's orders, newest first, behind the place (before, before_id); a null filter is none.
select o.*, (
    select json_agg(json_build_array(product_id, quantity, unit_price_minor) order by line)
    from order_items where order_id = o.id
) as items
from orders o
where o.user_id = :user_id
  and (:status::text is null or o.status = :status)
  and (:before::timestamptz is null or (o.created_at, o.id) < (:before::timestamptz, :before_id::uuid))
order by o.created_at desc, o.id desc
limit :page_size;
