-- name: get_product(id)^
-- One product.
select * from products where id = :id;

-- name: products_by_ids(ids)
-- What an order needs to know of its products.
select id, price_minor, currency, available from products where id = any(:ids::uuid[]);

-- name: list_products_by_name(category, after, after_id, page_size)
-- Products by name, behind the place (after, after_id).
select * from products
where (:category::text is null or category = :category)
  and (:after::text is null or (name, id) > (:after::text, :after_id::uuid))
order by name, id
limit :page_size;

-- name: list_products_by_name_down(category, after, after_id, page_size)
-- Products by name, downwards, behind the place (after, after_id).
select * from products
where (:category::text is null or category = :category)
  and (:after::text is null or (name, id) < (:after::text, :after_id::uuid))
order by name desc, id desc
limit :page_size;

-- name: list_products_by_price(category, after, after_id, page_size)
-- Products by price, behind the place (after, after_id).
select * from products
where (:category::text is null or category = :category)
  and (:after::bigint is null or (price_minor, id) > (:after::bigint, :after_id::uuid))
order by price_minor, id
limit :page_size;

-- name: list_products_by_price_down(category, after, after_id, page_size)
-- Products by price, downwards, behind the place (after, after_id).
select * from products
where (:category::text is null or category = :category)
  and (:after::bigint is null or (price_minor, id) < (:after::bigint, :after_id::uuid))
order by price_minor desc, id desc
limit :page_size;

-- name: list_products_by_creation(category, after, after_id, page_size)
-- Products by creation, behind the place (after, after_id).
select * from products
where (:category::text is null or category = :category)
  and (:after::timestamptz is null or (created_at, id) > (:after::timestamptz, :after_id::uuid))
order by created_at, id
limit :page_size;

-- name: list_products_by_creation_down(category, after, after_id, page_size)
-- Products by creation, downwards, behind the place (after, after_id).
select * from products
where (:category::text is null or category = :category)
  and (:after::timestamptz is null or (created_at, id) < (:after::timestamptz, :after_id::uuid))
order by created_at desc, id desc
limit :page_size;

-- name: insert_product(id, name, price_minor, currency, description, category, quantity, now)^
-- A new product with its whole quantity available; no row when the name is taken.
insert into products (id, name, price_minor, currency, description, category, stocked, available, created_at, updated_at)
values (:id, :name, :price_minor, :currency, :description, :category, :quantity, :quantity, :now, :now)
on conflict (name) do nothing
returning *;

-- name: undecided_items(order_ids)
-- The lines of those orders that inventory has neither reserved nor rejected yet.
select order_id, product_id, quantity
from order_items
where order_id = any(:order_ids::uuid[])
  and not exists (select from reservations r where r.order_id = order_items.order_id)
order by order_id, line;

-- name: lock_products(ids)
-- Products under their row locks, locked in id order so that no two batches wait in a circle.
select id, available from products where id = any(:ids::uuid[]) order by id for no key update;

-- name: decide_reservations(order_ids, outcomes, product_ids, quantities, now)
-- Note what inventory decided (the primary key lets it decide once for an order), and lower what
-- is available (the table's check refuses to go below zero). The products' new versions.
with decided as (
    insert into reservations (order_id, outcome, created_at)
    select order_id, outcome, :now
    from unnest(:order_ids::uuid[], :outcomes::text[]) as r (order_id, outcome)
)
update products
set available = available - taken.quantity, version = version + 1, updated_at = :now
from unnest(:product_ids::uuid[], :quantities::bigint[]) as taken (id, quantity)
where products.id = taken.id
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
