-- name: parked_messages_of(order_id, most)
-- The latest messages of an order that wait for somebody to decide.
select id, handler, topic, partition, "offset", state, error, attempts, parked_at
from parked_messages
where order_id = :order_id and resolved_at is null
order by place desc
limit :most;

-- name: park_message(handler, topic, partition, offset, order_id, holds_order, key, value, headers, error, attempts, now)!
-- Keep a message that a handler could not take; once.
insert into parked_messages (
    handler, topic, partition, "offset", order_id, state, holds_order, key, value, headers, error,
    attempts, parked_at
)
values (
    :handler, :topic, :partition, :offset, :order_id, 'PARKED', :holds_order, :key, :value, :headers,
    :error, :attempts, :now
)
on conflict do nothing;

-- name: parked_ahead(handler, order_ids)^
-- By order, the offset of its first parked message; and whether any order of the handler has one.
-- The share locks keep whoever replays from finishing while more is parked behind.
with ahead as (
    select order_id, "offset"
    from parked_messages
    where handler = :handler and order_id = any(:order_ids::uuid[])
      and holds_order and resolved_at is null
    for share
)
select exists (
    select from parked_messages where handler = :handler and holds_order and resolved_at is null
) as any_at_all, (
    select json_object_agg(order_id, first)
    from (select order_id, min("offset") as first from ahead group by order_id) as firsts
) as first_by_order;

-- name: park_behind(handler, topic, partitions, offsets, order_ids, keys, payloads, headers, now)!
-- Keep messages that come behind a parked one of their order; each once.
insert into parked_messages (
    handler, topic, partition, "offset", order_id, state, holds_order, key, value, headers, error,
    attempts, parked_at
)
select :handler, :topic, partition, "offset", order_id, 'WAITING', true, key, value, headers::json,
    'Waits behind an earlier message of its order', 0, :now
from unnest(
    :partitions::int[], :offsets::bigint[], :order_ids::uuid[], :keys::bytea[], :payloads::bytea[],
    :headers::text[]
) as m (partition, "offset", order_id, key, value, headers)
on conflict do nothing;

-- name: get_parked(id)^
-- One parked message, whole.
select * from parked_messages where id = :id;

-- name: lock_parked(id)^
-- One parked message that nobody has resolved, under its row lock.
select * from parked_messages where id = :id and resolved_at is null for update;

-- name: lock_first_parked(handler, order_id)^
-- The first message of an order that a handler has not taken, under its row lock.
select *
from parked_messages
where handler = :handler and order_id = :order_id and holds_order and resolved_at is null
order by "offset", place
limit 1
for update;

-- name: resolve_parked(id, state, by, reason, now)!
-- A parked message is done with: by whom, and why.
update parked_messages
set state = :state, resolved_at = :now, resolved_by = :by, resolve_reason = :reason
where id = :id;

-- name: note_failed_replay(id, error)!
-- A parked message was refused once more.
update parked_messages
set state = 'PARKED', error = :error, attempts = attempts + 1
where id = :id and resolved_at is null;

-- name: list_parked(states, before, page_size)
-- Parked messages of those states, the latest first, from behind a place.
select page.*
from unnest(:states::text[]) as wanted (state)
cross join lateral (
    select * from parked_messages
    where parked_messages.state = wanted.state
      and place < coalesce(:before::bigint, 9223372036854775807)
    order by place desc
    limit :page_size
) as page
order by page.place desc
limit :page_size;

-- name: list_parked_of_handler(handler, states, before, page_size)
-- Parked messages of one handler, the latest first, from behind a place.
select page.*
from unnest(:states::text[]) as wanted (state)
cross join lateral (
    select * from parked_messages
    where handler = :handler and parked_messages.state = wanted.state
      and place < coalesce(:before::bigint, 9223372036854775807)
    order by place desc
    limit :page_size
) as page
order by page.place desc
limit :page_size;

-- name: list_parked_of_order(order_id, handlers, states, before, page_size)
-- Parked messages of one order, the latest first, from behind a place; handlers: null for all.
select *
from parked_messages
where order_id = :order_id
  and state = any(:states::text[])
  and (:handlers::text[] is null or handler = any(:handlers))
  and place < coalesce(:before::bigint, 9223372036854775807)
order by place desc
limit :page_size;

-- name: reap_parked(kept, batch)!
-- Forget messages that were resolved longer ago than what is kept.
delete from parked_messages
where place in (
    select place from parked_messages
    where resolved_at < now() - :kept::interval
    order by resolved_at
    limit :batch
    for update skip locked
);
