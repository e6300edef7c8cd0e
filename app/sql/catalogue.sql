-- name: get_product(id)^
-- One product.
select * from products where id = :id;

-- name: products_by_ids(ids)
-- The price, currency and available pieces of products.
select id, price_minor, currency, available from products where id = any(:ids::uuid[]);

-- name: insert_product(id, name, price_minor, currency, description, category, quantity, now)^
-- Insert a product with its whole quantity available; no row if the name is taken, or the catalogue
-- has another currency.
insert into products (id, name, price_minor, currency, description, category, stocked, available, created_at, updated_at)
select :id, :name, :price_minor, :currency::text, :description, :category, :quantity::bigint, :quantity, :now, :now
where coalesce((select currency from products limit 1), :currency) = :currency
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

-- name: catalogue_currency()$
-- The currency of the catalogue, if it has a product: all have the same.
select currency from products limit 1;

-- name: foreign_currency(currency)$
-- A currency in the catalogue other than this one, if any.
select currency from products where currency <> :currency limit 1;

-- Without a position a list starts before the first row, by a coalesce: a null test beside the
-- comparison would keep a prepared statement from using the index. The category is compared with an
-- array, and is the first sort column: with a simple equality the planner could scan an index without
-- the category, and filter the whole catalogue for one page.

-- name: list_products_by_name(after, after_id, page_size)
-- Products by name, after the position (after, after_id).
select * from products
where (name, id) > (
    coalesce(:after::text, ''),
    coalesce(:after_id::uuid, '00000000-0000-0000-0000-000000000000')
)
order by name, id
limit :page_size;

-- name: list_products_by_name_down(after, after_id, page_size)
-- Products by name, descending, after the position (after, after_id).
select * from products
where (name, id) < (
    coalesce(:after::text, (select name from products order by name desc, id desc limit 1)),
    coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)
order by name desc, id desc
limit :page_size;

-- name: list_products_by_price(after, after_id, page_size)
-- Products by price, after the position (after, after_id).
select * from products
where (price_minor, id) > (
    coalesce(:after::bigint, -1),
    coalesce(:after_id::uuid, '00000000-0000-0000-0000-000000000000')
)
order by price_minor, id
limit :page_size;

-- name: list_products_by_price_down(after, after_id, page_size)
-- Products by price, descending, after the position (after, after_id).
select * from products
where (price_minor, id) < (
    coalesce(:after::bigint, 9223372036854775807),
    coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)
order by price_minor desc, id desc
limit :page_size;

-- name: list_products_by_creation(after, after_id, page_size)
-- Products by creation, after the position (after, after_id).
select * from products
where (created_at, id) > (
    coalesce(:after::timestamptz, '-infinity'),
    coalesce(:after_id::uuid, '00000000-0000-0000-0000-000000000000')
)
order by created_at, id
limit :page_size;

-- name: list_products_by_creation_down(after, after_id, page_size)
-- Products by creation, descending, after the position (after, after_id).
select * from products
where (created_at, id) < (
    coalesce(:after::timestamptz, 'infinity'),
    coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)
order by created_at desc, id desc
limit :page_size;

-- name: list_category_by_name(category, after, after_id, page_size)
-- Products of a category by name, after the position (after, after_id).
select * from products
where category = any(array[:category]) and (name, id) > (
    coalesce(:after::text, ''),
    coalesce(:after_id::uuid, '00000000-0000-0000-0000-000000000000')
)
order by category, name, id
limit :page_size;

-- name: list_category_by_name_down(category, after, after_id, page_size)
-- Products of a category by name, descending, after the position (after, after_id).
select * from products
where category = any(array[:category]) and (name, id) < (
    coalesce(:after::text, (select name from products order by name desc, id desc limit 1)),
    coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)
order by category desc, name desc, id desc
limit :page_size;

-- name: list_category_by_price(category, after, after_id, page_size)
-- Products of a category by price, after the position (after, after_id).
select * from products
where category = any(array[:category]) and (price_minor, id) > (
    coalesce(:after::bigint, -1),
    coalesce(:after_id::uuid, '00000000-0000-0000-0000-000000000000')
)
order by category, price_minor, id
limit :page_size;

-- name: list_category_by_price_down(category, after, after_id, page_size)
-- Products of a category by price, descending, after the position (after, after_id).
select * from products
where category = any(array[:category]) and (price_minor, id) < (
    coalesce(:after::bigint, 9223372036854775807),
    coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)
order by category desc, price_minor desc, id desc
limit :page_size;

-- name: list_category_by_creation(category, after, after_id, page_size)
-- Products of a category by creation, after the position (after, after_id).
select * from products
where category = any(array[:category]) and (created_at, id) > (
    coalesce(:after::timestamptz, '-infinity'),
    coalesce(:after_id::uuid, '00000000-0000-0000-0000-000000000000')
)
order by category, created_at, id
limit :page_size;

-- name: list_category_by_creation_down(category, after, after_id, page_size)
-- Products of a category by creation, descending, after the position (after, after_id).
select * from products
where category = any(array[:category]) and (created_at, id) < (
    coalesce(:after::timestamptz, 'infinity'),
    coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)
order by category desc, created_at desc, id desc
limit :page_size;
