-- name: mark_and_take(sent, batch)
-- Mark what the broker has acknowledged, and take the oldest events that wait to be sent.
-- Each order's come in sequence: ids are drawn under its row lock.
with marked as (
    update outbox set published_at = now() where id = any(:sent::bigint[])
)
select id, event_id, topic, order_id, request_id, occurred_at, payload
from outbox
where published_at is null and id <> all(:sent::bigint[])
order by id
limit :batch;

-- name: try_to_lead()$
-- Become the session that relays, until it ends; false where another one is.
select pg_try_advisory_lock(7070001);

-- name: wake_relay()!
-- Tell the relaying worker that another worker has committed events.
select pg_notify('outbox', '');

-- name: outbox_waiting()^
-- How many events wait to be sent, and since when the oldest does.
select count(*) as count, min(occurred_at) as oldest from outbox where published_at is null;
