-- name: orders_changed_lately(events)
-- The orders of so many latest events, with their versions as far as these tell.
select order_id as id, max(sequence) as version
from (select order_id, sequence from outbox order by id desc limit :events) as latest
group by order_id;

-- name: products_changed_lately(seconds)
-- The products that were changed within so many seconds before the latest change of one.
select id, version from products
where updated_at >= (select max(updated_at) from products) - :seconds * interval '1 second';
