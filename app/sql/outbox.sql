-- name: mark_and_take(sent_orders, sent_sequences, sent_times, excluded, batch)
-- Mark the events that the broker has acknowledged, and return the oldest unsent events, except those
-- of orders in `excluded` and of orders held by a parked event. Each order's come in sequence, since ids
-- rise with it. `sent_times` are when the acknowledged events occurred: each is looked up in the one
-- partition of its time. (For a range of times, PostgreSQL would compare all events of that range with
-- all acknowledged ones while the outbox is small, and go on so while it grows.) They are marked a
-- microsecond apart, in the given order, so that published_at keeps each order's sequence.
with sent as materialized (
    select order_id, sequence, occurred_at::timestamptz, ordinal
    from unnest(:sent_orders::uuid[], :sent_sequences::int[], :sent_times::text[])
        with ordinality as s (order_id, sequence, occurred_at, ordinal)
), marked as (
    -- A duplicate keeps the first mark: otherwise it would seem sent after the order's next event.
    update outbox
    set published_at = coalesce(outbox.published_at, now() + sent.ordinal * interval '1 microsecond')
    from sent
    where outbox.order_id = sent.order_id and outbox.sequence = sent.sequence
      and outbox.occurred_at = sent.occurred_at
)
select event_id, topic, order_id, sequence, request_id, occurred_at, payload
from outbox
where published_at is null
  and (order_id, sequence) not in (select s.order_id, s.sequence from sent s)
  and order_id not in (select unnest(:excluded::uuid[]))
  and order_id not in (
      select p.order_id from parked_messages p
      where p.handler = 'relay' and p.holds_order and p.resolved_at is null
        and p.order_id is not null
  )
order by id
limit :batch;

-- name: park_refused(order_id, sequence, occurred_at, error, now)!
-- Park an event that the broker refuses for good, and hold its order. Its offset is the outbox id.
insert into parked_messages (
    handler, topic, partition, "offset", order_id, state, holds_order, key, value, headers, error,
    attempts, parked_at
)
select 'relay', topic, -1, id, order_id, 'PARKED', true, convert_to(order_id::text, 'UTF8'),
    convert_to(payload::text, 'UTF8'), '{}', :error, 1, :now
from outbox
where order_id = :order_id and sequence = :sequence and occurred_at = :occurred_at::text::timestamptz
on conflict (handler, topic, partition, "offset", md5(coalesce(value, ''))) do update
    set state = 'PARKED', error = excluded.error, attempts = parked_messages.attempts + 1,
        resolved_at = null, resolved_by = null, resolve_reason = null;

-- name: give_up_event(id)!
-- Mark an event that an operator has discarded as sent, so that the order's next event is sent.
update outbox set published_at = now() where id = :id;

-- name: make_outbox_partitions()
-- Create the missing partitions of this month and the next three, by PostgreSQL's clock: one of the past,
-- made for the events of a worker whose clock is slow, would soon be dropped for its age.
select make_outbox_partition(month)
from generate_series(now(), now() + interval '92 days', interval '15 days') as month;

-- name: drop_outbox_partitions(kept)$
-- Drop partitions, oldest first, whose events are all sent and older than the retention; return how many. The age is
-- by PostgreSQL's clock, since a worker's may be wrong.
select drop_outbox_partitions(now() - :kept::interval);

-- name: outbox_days_ahead()$
-- The days until the last month that the outbox has a partition for ends, negative after that; 0 if it has none.
select coalesce(extract(epoch from max(
    (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC'
) - now()) / 86400, 0)::float8
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{4}_[0-9]{2}$';

-- name: try_to_lead()$
-- Try to become the session that relays, until it ends; false if another session is.
select pg_try_advisory_lock(7070001);

-- name: tell_relay(payloads)!
-- Notify the relaying worker of events that this worker has committed.
select pg_notify('outbox', payload) from unnest(:payloads::text[]) as payload;

-- name: outbox_waiting()^
-- The number of unsent events, and when the oldest occurred.
select count(*) as count, min(occurred_at) as oldest from outbox where published_at is null;

-- name: oldest_unsent_age()$
-- The age in seconds of the oldest event that waits to be sent; 0 if none waits. An event that the broker
-- refused, and what its order holds back, waits for an operator.
select coalesce(
    (
        select extract(epoch from now() - occurred_at)::float8
        from outbox
        where published_at is null
          and order_id not in (
              select p.order_id from parked_messages p
              where p.handler = 'relay' and p.holds_order and p.resolved_at is null
                and p.order_id is not null
          )
        order by id
        limit 1
    ),
    0
);
