-- name: try_to_audit()$
-- Try to become the session that runs the timed audits, until it ends; false if another session is.
select pg_try_advisory_lock(7070002);

-- name: limit_statements(patience)$
-- Set the timeout of each statement in this transaction.
select set_config(
    'statement_timeout', ceil(extract(epoch from :patience::interval) * 1000)::bigint::text, true
);

-- name: events_of_orders(order_ids, topic)
-- The orders' events in a topic, with the payloads that their messages must have.
select id, event_id, order_id, payload
from outbox
where order_id = any(:order_ids::uuid[]) and topic = :topic;

-- name: sent_events(after, since, until, batch)
-- Events that were marked as sent in a period, after an id; each order's in sequence. Those that had
-- waited for more than a week are left out, so that earlier months need not be read. Events that
-- the broker refused and an operator discarded are left out: they are marked as sent, but not in Kafka.
select id, order_id, topic, sequence, published_at
from outbox
where id > :after and published_at between :since and :until
  and occurred_at > :since::timestamptz - interval '7 days'
  and not exists (
      select from parked_messages p
      where p.handler = 'relay' and p.state = 'DISCARDED' and p."offset" = outbox.id
  )
order by id
limit :batch;

-- name: events_kept_since()$
-- The start of the oldest month that the outbox has a partition for: no event since then has been dropped, as
-- months are dropped from the oldest on. Where there is none, this month: it is never dropped. Naming the outbox locks
-- it, so that none is dropped until the transaction ends.
select least(
    min(to_date(right(c.relname, 7), 'YYYY_MM')::timestamp at time zone 'UTC'),
    date_trunc('month', now(), 'UTC')
)
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{4}_[0-9]{2}$'
  and not exists (select from outbox where false);
