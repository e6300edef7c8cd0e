-- name: events_after(order_id, sequence, page_size)
-- An order's events after a sequence, oldest first.
select sequence, topic, occurred_at, request_id, payload
from outbox
where order_id = :order_id and sequence > :sequence
order by sequence
limit :page_size;

-- name: order_versions(ids)
-- The versions of orders: the sequence of the latest event of each.
select id, version from orders where id = any(:ids::uuid[]);
