-- name: orders_are_paid_exactly_once(since, most)
-- A paid or completed order has exactly one kept payment, of its exact total and currency.
select o.id as subject,
    concat(o.status, ' for ', o.total_minor, ', captured ', sum(p.captured_minor), ' by ', count(p.id))
        as detail,
    count(*) over () as found
from orders o left join payments p on p.order_id = o.id and p.status = 'SUCCEEDED'
where o.status in ('PAID', 'COMPLETED') and o.updated_at >= :since::timestamptz
group by o.id
having count(p.id) <> 1
    or sum(p.captured_minor) is distinct from o.total_minor
    or bool_or(p.captured_currency is distinct from o.currency)
limit :most;

-- name: cancelled_orders_keep_no_money(rest, bound, most)
-- A payment of a cancelled order is refunded: an internal one within the bound, one at Stripe within an
-- hour for a bound of 5 minutes, or within 14 days once Stripe has reported a refund of it.
select o.id as subject, concat_ws(' ', 'payment', p.id, p.status) as detail, count(*) over () as found
from payments p join orders o on o.id = p.order_id
where o.status = 'CANCELLED' and p.status in ('SUCCEEDED', 'REFUNDING')
  and greatest(o.updated_at, p.updated_at) <= :rest::timestamptz - :bound::interval * case
      when p.provider = 'internal' or p.status = 'SUCCEEDED' then 0
      when exists (select from provider_events e where e.payment_id = p.id and e.kind = 'refund') then 4032
      else 12
  end
limit :most;

-- name: captured_money_is_kept_or_refunded(rest, bound, most)
-- For every payment whose refund has not failed: captured = kept by its order + refunded. Refunds at Stripe have an
-- hour for a bound of 5 minutes, or 14 days once Stripe has reported one.
select p.order_id as subject,
    concat_ws(' ', 'payment', p.id, p.status, p.captured_minor, p.refunded_minor) as detail,
    count(*) over () as found
from payments p join orders o on o.id = p.order_id
where p.captured_minor <> p.refunded_minor
  and not (p.status = 'SUCCEEDED' and o.status <> 'CANCELLED')
  and p.status <> 'REFUND_FAILED'
  and p.updated_at <= :rest::timestamptz - :bound::interval * case
      when p.provider = 'internal' or p.status <> 'REFUNDING' then 0
      when exists (select from provider_events e where e.payment_id = p.id and e.kind = 'refund') then 4032
      else 12
  end
limit :most;

-- name: no_refund_is_left_to_an_operator(rest, most)
-- No payment holds money that Stripe would not refund for longer than the bound.
select order_id as subject, concat_ws(' ', 'payment', id, captured_minor, refunded_minor) as detail,
    count(*) over () as found
from payments
where status = 'REFUND_FAILED' and updated_at <= :rest::timestamptz
limit :most;

-- name: money_is_what_was_reported(since, most)
-- A payment's captured and refunded amounts are those computed from its provider's reports.
select p.order_id as subject,
    concat_ws(' ', 'payment', p.id, p.captured_minor, p.refunded_minor, 'reported',
        coalesce(came.amount_minor, 0), refunded.minor) as detail,
    count(*) over () as found
from payments p
left join lateral (
    select amount_minor, currency from provider_events
    where payment_id = p.id and kind = 'captured'
    order by amount_minor desc, currency desc
    limit 1
) as came on true
cross join lateral (
    -- Each refund counts at its highest stage: 0 under way, 1 settled, 2 lost.
    select least(coalesce(came.amount_minor, 0), greatest(
        coalesce(sum(amount_minor) filter (where stage = 1), 0),
        coalesce(max(amount_minor) filter (where kind = 'refunded_in_all'), 0)
            - coalesce(sum(amount_minor) filter (where stage <> 1), 0)
    )) as minor
    from (
        select distinct on (kind, provider_refund_id, case kind when 'refund' then '' else event_id end)
            kind, amount_minor, staged.stage
        from provider_events
        cross join lateral (
            select case
                when kind <> 'refund' then null
                when refund_status in ('failed', 'canceled') then 2
                when refund_status = 'succeeded' then 1
                else 0
            end as stage
        ) as staged
        where payment_id = p.id and kind in ('refund', 'refunded_in_all')
        order by kind, provider_refund_id, case kind when 'refund' then '' else event_id end, staged.stage desc
    ) as refunds
) as refunded
where p.updated_at >= :since::timestamptz
  and (
      p.captured_minor <> coalesce(came.amount_minor, 0)
      or p.captured_currency is distinct from came.currency
      or p.refunded_minor <> refunded.minor
  )
limit :most;

-- name: no_more_is_asked_back_than_came(since, most)
-- The refunds requested for a payment, without refused and failed ones, do not exceed what was captured.
select p.order_id as subject, concat_ws(' ', 'payment', p.id, p.captured_minor, sum(r.amount_minor)) as detail,
    count(*) over () as found
from payments p join refunds r on r.payment_id = p.id
where p.updated_at >= :since::timestamptz and r.refused_reason is null
  and not exists (
      select from provider_events e
      where e.payment_id = p.id and e.refund_status in ('failed', 'canceled')
        and (
            e.refund_id = r.id::text or e.provider_refund_id = r.provider_refund_id
            or e.provider_refund_id in (
                select ours.provider_refund_id from provider_events ours
                where ours.payment_id = p.id and ours.refund_id = r.id::text
            )
        )
  )
group by p.id
having sum(r.amount_minor) > p.captured_minor
limit :most;

-- name: refunds_are_told(since, kept, whole, thousandths, most)
-- An order's timeline shows what was refunded of each payment, or more if a refund failed later.
select p.order_id as subject, concat_ws(' ', 'payment', p.id, p.announced_minor, p.refunded_minor, told.minor)
        as detail,
    count(*) over () as found
from payments p
cross join lateral (
    select coalesce(sum(round((payload ->> 'amount')::numeric * case
            when payload ->> 'currency' = any(:whole::text[]) then 1
            when payload ->> 'currency' = any(:thousandths::text[]) then 1000
            else 100
        end)), 0) as minor
    from outbox
    where order_id = p.order_id and topic = 'payment.refunded' and payload ->> 'paymentId' = p.id::text
) as told
where p.updated_at >= :since::timestamptz and p.created_at >= :kept::timestamptz
  and (
      p.announced_minor < p.refunded_minor or told.minor < p.announced_minor
      or (told.minor > p.announced_minor and not exists (
          select from provider_events e
          where e.payment_id = p.id and e.refund_status in ('failed', 'canceled')
      ))
  )
limit :most;

-- name: kept_payments_are_told(since, kept, most)
-- An order's timeline shows the success of the payment that it keeps.
select p.order_id as subject, concat_ws(' ', 'payment', p.id) as detail, count(*) over () as found
from payments p
where p.status = 'SUCCEEDED' and p.updated_at >= :since::timestamptz and p.created_at >= :kept::timestamptz
  and not exists (
      select from outbox e
      where e.order_id = p.order_id and e.topic = 'payment.succeeded'
        and e.payload ->> 'paymentId' = p.id::text
  )
limit :most;

-- name: payment_events_happen_once(since, most)
-- No payment is requested, captured or failed twice, and no refund is requested twice.
select order_id as subject, concat_ws(' ', topic, payload ->> 'paymentId') as detail,
    count(*) over () as found
from outbox
where topic in (
    'order.payment_requested', 'order.checkout_requested', 'payment.succeeded', 'payment.failed',
    'payment.refund_requested'
) and occurred_at >= :since::timestamptz
group by order_id, topic, payload ->> 'paymentId', payload ->> 'refundId'
having count(*) > 1
limit :most;
