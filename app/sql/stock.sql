-- name: lock_reserved_products(order_ids)
-- Lock the products that were ever reserved for the orders, in id order; return their versions.
select id, version
from products
where id in (
    select i.product_id
    from order_items i
    join reservations r using (order_id)
    where r.order_id = any(:order_ids::uuid[]) and r.outcome in ('RESERVED', 'RELEASED')
)
order by id
for no key update;

-- name: release_reservations(order_ids, now)
-- Release the stock that is still reserved for the orders, once; return the products' new versions.
with released as (
    update reservations set outcome = 'RELEASED'
    where order_id = any(:order_ids::uuid[]) and outcome = 'RESERVED'
    returning order_id
), given_back as (
    select product_id, sum(quantity)::bigint as quantity
    from order_items join released using (order_id)
    group by product_id
)
update products
set available = available + given_back.quantity, version = version + 1, updated_at = :now
from given_back
where products.id = given_back.product_id
returning products.id, products.version;

-- name: product_versions(order_ids)
-- The products in the orders, with their versions.
select distinct p.id, p.version
from order_items i
join products p on p.id = i.product_id
where i.order_id = any(:order_ids::uuid[]);
