-- name: orders_move_on(rest, most)
-- A paid order, or one whose payment is in progress, moves on within the bound.
select o.id as subject, concat_ws(', payment ', o.status, p.status) as detail, count(*) over () as found
from orders o
left join lateral (
    select status, updated_at from payments
    where order_id = o.id and (provider = 'internal' or status = 'SUCCEEDED')
    order by created_at desc, id desc
    limit 1
) as p on true
where o.status in ('CREATED', 'PAID') and (o.status = 'PAID' or p.status is not null)
  and greatest(o.updated_at, p.updated_at) <= :rest::timestamptz
limit :most;

-- name: failed_payments_cancel_their_orders(rest, most)
-- An order is cancelled within the bound after its payment failed.
select o.id as subject, concat_ws(' ', o.status, e.sequence) as detail, count(*) over () as found
from orders o join outbox e on e.order_id = o.id
where o.status = 'CREATED' and e.topic = 'payment.failed' and e.occurred_at <= :rest::timestamptz
limit :most;

-- name: unpaid_orders_have_a_deadline(most)
-- Every order in status CREATED has a deadline at which it expires.
select o.id as subject, o.created_at::text as detail, count(*) over () as found
from orders o
where o.status = 'CREATED' and not exists (select from order_deadlines d where d.order_id = o.id)
limit :most;

-- name: deadlines_are_kept(rest, most)
-- A deadline that has passed is dealt with within the bound.
select order_id as subject, due_at::text as detail, count(*) over () as found
from order_deadlines
where due_at <= :rest::timestamptz
order by due_at
limit :most;

-- name: totals_are_the_sum_of_their_lines(since, most)
-- An order has at least one line, and its total is the sum of its lines.
select o.id as subject,
    concat(o.total_minor, ' is not ', sum(i.quantity::numeric * i.unit_price_minor)) as detail,
    count(*) over () as found
from orders o left join order_items i on i.order_id = o.id
where o.updated_at >= :since::timestamptz
group by o.id
having sum(i.quantity::numeric * i.unit_price_minor) is distinct from o.total_minor
limit :most;

-- name: keys_have_their_answers(most)
-- Every Idempotency-Key is stored together with the answer for its replays.
select user_id as subject, key as detail, count(*) over () as found
from idempotency_keys
where answer is null
limit :most;

-- name: expired_keys_are_forgotten(rest, most)
-- An expired Idempotency-Key is deleted within the bound.
select user_id as subject, key as detail, count(*) over () as found
from idempotency_keys
where expires_at <= :rest::timestamptz
order by expires_at
limit :most;

-- name: ended_orders_are_told(rest, since, most)
-- The customer is notified within the bound after an order has ended.
select o.id as subject, o.status as detail, count(*) over () as found
from orders o
where o.status in ('COMPLETED', 'CANCELLED')
  and o.updated_at between :since::timestamptz and :rest::timestamptz
  and not exists (
      select from notifications n
      where n.order_id = o.id and n.kind = lower(o.status) and n.channel = 'log' and n.sent_at is not null
  )
limit :most;

-- name: customers_are_told_the_truth(most)
-- Every notification agrees with how its order ended.
select o.id as subject, concat_ws(', told ', o.status, n.kind) as detail, count(*) over () as found
from notifications n join orders o on o.id = n.order_id
where n.kind <> lower(o.status)
limit :most;

-- name: notifications_are_sent(rest, most)
-- A due notification is sent, or its next attempt is scheduled, within the bound.
select order_id as subject, concat_ws(' ', kind, channel, due_at) as detail, count(*) over () as found
from notifications
where sent_at is null and due_at <= :rest::timestamptz
order by due_at
limit :most;

-- name: parked_messages_are_settled(rest, most)
-- A parked message is replayed or discarded within the bound.
select order_id as subject, concat_ws(' ', handler, topic, partition, "offset") as detail,
    count(*) over () as found
from parked_messages
where resolved_at is null and parked_at <= :rest::timestamptz
order by parked_at
limit :most;

-- name: messages_wait_behind_a_parked_one(rest, most)
-- A waiting message is behind a parked one of its order; where a replay was interrupted, it has to be
-- replayed by itself.
select order_id as subject, concat_ws(' ', handler, topic, partition, "offset") as detail,
    count(*) over () as found
from parked_messages waiting
where state = 'WAITING' and parked_at <= :rest::timestamptz
  and not exists (
      select from parked_messages ahead
      where ahead.handler = waiting.handler and ahead.order_id = waiting.order_id
        and ahead."offset" < waiting."offset" and ahead.state = 'PARKED' and ahead.holds_order
  )
limit :most;
