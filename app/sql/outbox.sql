-- name: append_to_outbox(event_ids, topics, order_ids, sequences, request_ids, times, payloads)!
-- Append events; array order is publishing order.
insert into outbox (event_id, topic, order_id, sequence, request_id, occurred_at, payload)
select event_id, topic, order_id, sequence, request_id, occurred_at::timestamptz, payload::json
from unnest(
    :event_ids::uuid[], :topics::text[], :order_ids::uuid[], :sequences::int[],
    :request_ids::text[], :times::text[], :payloads::text[]
) with ordinality as e (event_id, topic, order_id, sequence, request_id, occurred_at, payload, place)
order by place;

-- name: take_from_outbox(batch)
-- The oldest unpublished events. Each order's come in sequence: ids are drawn under its row lock.
select id, event_id, topic, order_id, request_id, occurred_at, payload
from outbox
where published_at is null
order by id
limit :batch;

-- name: mark_published(ids)!
-- Mark events that the broker has acknowledged.
update outbox set published_at = now() where id = any(:ids::bigint[]);

-- name: lead_relay()!
-- Wait until no other session relays, then hold that place until this session ends.
select pg_advisory_lock(7070001);

-- name: wake_relay()!
-- Tell the relaying worker that another worker has committed events.
select pg_notify('outbox', '');
