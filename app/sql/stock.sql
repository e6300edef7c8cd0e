-- name: get_product(id)^
-- One product.
select * from products where id = :id;

-- name: products_by_ids(ids)
-- The price, currency and available pieces of products.
select id, price_minor, currency, available from products where id = any(:ids::uuid[]);

-- name: insert_product(id, name, price_minor, currency, description, category, quantity, now)^
-- Insert a product with its whole quantity available; no row if the name is taken.
insert into products (id, name, price_minor, currency, description, category, stocked, available, created_at, updated_at)
values (:id, :name, :price_minor, :currency, :description, :category, :quantity, :quantity, :now, :now)
on conflict (name) do nothing
returning *;

-- name: update_product(id, price_minor, sets_description, description, sets_category, category, add_quantity, most, now)^
-- Change the given fields of a product; no row if it does not exist, or would have fewer pieces in
-- stock than are reserved, or more than `most`.
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

-- name: foreign_currency(currency)$
-- A currency in the catalogue other than this one, if any.
select currency from products where currency <> :currency limit 1;
