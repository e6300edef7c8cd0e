-- name: get_product(id)^
-- One product.
select * from products where id = :id;

-- name: products_by_ids(ids)
-- What an order needs to know of its products.
select id, price_minor, currency, available from products where id = any(:ids::uuid[]);

-- name: insert_product(id, name, price_minor, currency, description, category, quantity, now)^
-- A new product with its whole quantity available; no row when the name is taken.
insert into products (id, name, price_minor, currency, description, category, stocked, available, created_at, updated_at)
values (:id, :name, :price_minor, :currency, :description, :category, :quantity, :quantity, :now, :now)
on conflict (name) do nothing
returning *;

-- name: update_product(id, price_minor, sets_description, description, sets_category, category, add_quantity, most, now)^
-- Change a product where told; no row where it is not there, or would stock less than is reserved
-- or more than `most`.
update products
set price_minor = coalesce(:price_minor::bigint, price_minor),
    description = case when :sets_description then :description::text else description end,
    category = case when :sets_category then :category::text else category end,
    stocked = stocked + :add_quantity::bigint,
    available = available + :add_quantity::bigint,
    version = version + 1,
    updated_at = :now
where id = :id
  and available + :add_quantity::bigint >= 0
  and stocked + :add_quantity::bigint <= :most
returning *;

-- name: lock_set_aside(order_ids)
-- The products that inventory ever set aside for the orders, locked in id order, with versions.
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
-- Release what is still reserved for the orders: its pieces are available again, once.
-- The products' new versions.
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
-- The products of those orders, with their versions.
select distinct p.id, p.version
from order_items i
join products p on p.id = i.product_id
where i.order_id = any(:order_ids::uuid[]);

-- name: foreign_currency(currency)$
-- A currency of the catalogue that is not this one.
select currency from products where currency <> :currency limit 1;
