-- name: orders_changed_lately(events)
-- The orders of the latest events, with the highest version that these events have.
select order_id as id, max(sequence) as version
from (select order_id, sequence from outbox order by id desc limit :events) as latest
group by order_id;

-- name: products_changed_lately(products)
-- The most recently changed products.
select id, version from products order by updated_at desc limit :products;
