-- name: orders_are_paid_exactly_once(since, most)
-- A paid or completed order keeps one payment, of its exact total.
select o.id as subject,
    concat(o.status, ' for ', o.total_minor, ', payments ', coalesce(sum(p.amount_minor), 0)) as detail,
    count(*) over () as found
from orders o left join payments p on p.order_id = o.id and p.status = 'SUCCEEDED'
where o.status in ('PAID', 'COMPLETED') and o.updated_at >= :since::timestamptz
group by o.id
having count(p.id) <> 1
    or sum(p.amount_minor) is distinct from o.total_minor
    or bool_or(p.currency <> o.currency)
limit :most;

-- name: cancelled_orders_keep_no_money(rest, most)
-- What was captured for a cancelled order goes back.
select o.id as subject, concat_ws(' ', 'payment', p.id, p.status) as detail, count(*) over () as found
from payments p join orders o on o.id = p.order_id
where o.status = 'CANCELLED' and p.status in ('SUCCEEDED', 'REFUNDING')
  and greatest(o.updated_at, p.updated_at) <= :rest::timestamptz
limit :most;

-- name: attempts_end_with_their_orders(rest, most)
-- Nobody can pay an order that has ended.
select o.id as subject, concat_ws(' ', 'payment', p.id, p.status) as detail, count(*) over () as found
from payments p join orders o on o.id = p.order_id
where o.status in ('COMPLETED', 'CANCELLED') and p.status = 'PENDING'
  and greatest(o.updated_at, p.updated_at) <= :rest::timestamptz
limit :most;

-- name: captured_money_is_kept_or_refunded(since, most)
-- What the events of a payment say was captured and given back is what its status says.
select p.order_id as subject,
    concat_ws(' ', 'payment', p.id, p.status, told.captured, told.refunded) as detail,
    count(*) over () as found
from payments p
left join lateral (
    select sum(minor) filter (where topic = 'payment.succeeded') as captured,
        sum(minor) filter (where topic = 'payment.refunded') as refunded
    from (
        select topic, round((payload ->> 'amount')::numeric * 100) as minor
        from outbox
        where order_id = p.order_id and topic in ('payment.succeeded', 'payment.refunded')
          and payload ->> 'paymentId' = p.id::text
    ) as events
) as told on true
where p.updated_at >= :since::timestamptz
  and (
      told.captured is distinct from
          case when p.status in ('SUCCEEDED', 'REFUNDING', 'REFUNDED') then p.amount_minor end
      or told.refunded is distinct from case when p.status = 'REFUNDED' then p.amount_minor end
  )
limit :most;

-- name: payment_events_happen_once(since, most)
-- No payment is requested, captured, failed or refunded twice.
select order_id as subject, concat_ws(' ', topic, payload ->> 'paymentId') as detail,
    count(*) over () as found
from outbox
where topic in (
    'order.payment_requested', 'payment.succeeded', 'payment.failed', 'payment.refund_requested',
    'payment.refunded'
) and occurred_at >= :since::timestamptz
group by order_id, topic, payload ->> 'paymentId'
having count(*) > 1
limit :most;
