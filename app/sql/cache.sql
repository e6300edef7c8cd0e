-- name: orders_changed_lately(events)
-- The orders of so many latest events, with their versions as far as these tell.
select order_id as id, max(sequence) as version
from (select order_id, sequence from outbox order by id desc limit :events) as latest
group by order_id;

-- name: products_changed_lately(products)
-- So many products, those that were changed last.
select id, version from products order by updated_at desc limit :products;
