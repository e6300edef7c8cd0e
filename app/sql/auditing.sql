-- name: try_to_audit()$
-- Become the session that audits on the timer, until it ends; false where another one is.
select pg_try_advisory_lock(7070002);

-- name: still_audits()$
-- Whether this session is there still, and with it what it has won.
select true;

-- name: limit_statements(patience)$
-- Let each statement of this transaction take no longer.
select set_config(
    'statement_timeout', ceil(extract(epoch from :patience::interval) * 1000)::bigint::text, true
);

-- name: server_time()$
-- This moment, by the clock that marks events as sent.
select now();

-- name: events_of_orders(order_ids, topic)
-- What the orders' messages in a topic must say.
select id, event_id, order_id, payload
from outbox
where order_id = any(:order_ids::uuid[]) and topic = :topic;

-- name: sent_events(after, since, until, batch)
-- Events that were marked as sent in that time, behind an id; an order's come in sequence. What the
-- broker refuses and an operator has given up counts as sent and is not in Kafka.
select id, order_id, topic, sequence, published_at
from outbox
where id > :after and published_at between :since and :until
  and not exists (
      select from parked_messages p
      where p.handler = 'relay' and p.state = 'DISCARDED' and p."offset" = outbox.id
  )
order by id
limit :batch;

-- name: events_kept_since()$
-- The month since which no event was dropped for its age; null where there are none.
select date_trunc('month', occurred_at, 'UTC') from outbox order by id limit 1;
