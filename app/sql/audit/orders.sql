-- name: orders_move_on(rest, most)
-- A paid order, or one with a payment on its way, is worked on.
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
-- An order does not outlive the failure of its payment.
select o.id as subject, concat_ws(' ', o.status, e.sequence) as detail, count(*) over () as found
from orders o join outbox e on e.order_id = o.id
where o.status = 'CREATED' and e.topic = 'payment.failed' and e.occurred_at <= :rest::timestamptz
limit :most;

-- name: unpaid_orders_have_a_deadline(most)
-- An order that nobody pays will expire.
select o.id as subject, o.created_at::text as detail, count(*) over () as found
from orders o
where o.status = 'CREATED' and not exists (select from order_deadlines d where d.order_id = o.id)
limit :most;

-- name: deadlines_are_kept(rest, most)
-- A deadline that has passed is settled.
select order_id as subject, due_at::text as detail, count(*) over () as found
from order_deadlines
where due_at <= :rest::timestamptz
order by due_at
limit :most;

-- name: totals_are_the_sum_of_their_lines(since, most)
-- An order costs what its lines cost, and has at least one.
select o.id as subject,
    concat(o.total_minor, ' is not ', sum(i.quantity::numeric * i.unit_price_minor)) as detail,
    count(*) over () as found
from orders o left join order_items i on i.order_id = o.id
where o.updated_at >= :since::timestamptz
group by o.id
having sum(i.quantity::numeric * i.unit_price_minor) is distinct from o.total_minor
limit :most;

-- name: keys_have_their_answers(most)
-- An Idempotency-Key is committed together with the answer that its replays get.
select user_id as subject, key as detail, count(*) over () as found
from idempotency_keys
where answer is null
limit :most;

-- name: expired_keys_are_forgotten(rest, most)
-- An Idempotency-Key does not outlive its time.
select user_id as subject, key as detail, count(*) over () as found
from idempotency_keys
where expires_at <= :rest::timestamptz
order by expires_at
limit :most;

-- name: ended_orders_are_told(rest, since, most)
-- The customer of an order that has ended is told so.
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
-- What is told of an order is how it ended.
select o.id as subject, concat_ws(', told ', o.status, n.kind) as detail, count(*) over () as found
from notifications n join orders o on o.id = n.order_id
where n.kind <> lower(o.status)
limit :most;

-- name: notifications_are_sent(rest, most)
-- A notification that is due is sent, or tried again.
select order_id as subject, concat_ws(' ', kind, channel, due_at) as detail, count(*) over () as found
from notifications
where sent_at is null and due_at <= :rest::timestamptz
order by due_at
limit :most;

-- name: parked_messages_are_settled(rest, most)
-- A message that a handler could not take is looked at by somebody.
select order_id as subject, concat_ws(' ', handler, topic, partition, "offset") as detail,
    count(*) over () as found
from parked_messages
where resolved_at is null and parked_at <= :rest::timestamptz
order by parked_at
limit :most;

-- name: messages_wait_behind_a_parked_one(rest, most)
-- A message that waits is behind one of its order that an operator can do something about.
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
