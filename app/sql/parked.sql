-- name: parked_messages_of(order_id, most)
-- The latest unresolved messages of an order.
select id, handler, topic, partition, "offset", state, error, attempts, parked_at
from parked_messages
where order_id = :order_id and resolved_at is null
order by position desc
limit :most;

-- name: park_message(handler, topic, partition, offset, order_id, holds_order, key, value, headers, error, attempts, now)$
-- Park a message that a handler could not handle, once; its new id, or null if it was parked before.
insert into parked_messages (
    handler, topic, partition, "offset", order_id, state, holds_order, key, value, headers, error,
    attempts, parked_at
)
values (
    :handler, :topic, :partition, :offset, :order_id, 'PARKED', :holds_order, :key, :value, :headers,
    :error, :attempts, :now
)
on conflict do nothing
returning id;

-- name: park_again(handler, topic, partition, offset, value, error, now)$
-- Park a message that was replayed or discarded before; its id, or null if there is none.
update parked_messages
set state = 'PARKED', error = :error, parked_at = :now,
    resolved_at = null, resolved_by = null, resolve_reason = null
where handler = :handler and topic = :topic and partition = :partition and "offset" = :offset
  and md5(coalesce(value, '')) = md5(coalesce(:value::bytea, '')) and resolved_at is not null
returning id;

-- name: parked_ahead(handler, order_ids)^
-- Whether the handler has a parked message that holds any order; and the offset of the first one by
-- order. The share locks keep a replay from resolving the messages while others are parked behind them.
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
-- Park messages behind a parked one of their order; each once.
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
-- One parked message.
select * from parked_messages where id = :id;

-- name: lock_parked(id)^
-- Lock and read one unresolved message.
select * from parked_messages where id = :id and resolved_at is null for update;

-- name: lock_first_parked(handler, order_id)^
-- Lock and read an order's first unresolved message of a handler.
select *
from parked_messages
where handler = :handler and order_id = :order_id and holds_order and resolved_at is null
order by "offset", position
limit 1
for update;

-- name: resolve_parked(id, state, by, reason, now)!
-- Mark a parked message as replayed or discarded: by whom, and why.
update parked_messages
set state = :state, resolved_at = :now, resolved_by = :by, resolve_reason = :reason
where id = :id;

-- name: note_failed_replay(id, error)!
-- Note that a handler refused a parked message once more.
update parked_messages
set state = 'PARKED', error = :error, attempts = attempts + 1
where id = :id and resolved_at is null;

-- name: list_parked(states, before, page_size)
-- Parked messages in one of the states, latest first, after a position.
select page.*
from unnest(:states::text[]) as wanted (state)
cross join lateral (
    select * from parked_messages
    where parked_messages.state = wanted.state
      and position < coalesce(:before::bigint, 9223372036854775807)
    order by position desc
    limit :page_size
) as page
order by page.position desc
limit :page_size;

-- name: list_parked_of_handler(handler, states, before, page_size)
-- Parked messages of one handler in one of the states, latest first, after a position.
select page.*
from unnest(:states::text[]) as wanted (state)
cross join lateral (
    select * from parked_messages
    where handler = :handler and parked_messages.state = wanted.state
      and position < coalesce(:before::bigint, 9223372036854775807)
    order by position desc
    limit :page_size
) as page
order by page.position desc
limit :page_size;

-- name: parked_ids(handler)
-- A handler's unresolved messages that wait behind none of their order, the first parked first. One that
-- waits may be the first: a replay or a discard that was interrupted leaves it.
select id from parked_messages first
where handler = :handler and state in ('PARKED', 'WAITING')
  and not (holds_order and exists (
      select from parked_messages ahead
      where ahead.handler = first.handler and ahead.order_id = first.order_id
        and ahead.holds_order and ahead.resolved_at is null
        and (ahead."offset", ahead.position) < (first."offset", first.position)
  ))
order by position;

-- name: list_parked_of_order(order_id, handlers, states, before, page_size)
-- Parked messages of one order in one of the states, latest first, after a position; null `handlers`
-- means all.
select *
from parked_messages
where order_id = :order_id
  and state = any(:states::text[])
  and (:handlers::text[] is null or handler = any(:handlers))
  and position < coalesce(:before::bigint, 9223372036854775807)
order by position desc
limit :page_size;

-- name: reap_parked(kept, batch)!
-- Delete a batch of messages that were resolved longer ago than the retention. A discarded event is known
-- for as long as the outbox has it: it is marked as sent, and only its discard tells that it was not.
delete from parked_messages
where position in (
    select position from parked_messages p
    where resolved_at < now() - :kept::interval
      and not (
          handler = 'relay' and state = 'DISCARDED'
          and exists (select from outbox where outbox.id = p."offset")
      )
    order by resolved_at
    limit :batch
    for update skip locked
);
