-- name: attempts_end_with_their_orders(rest, most)
-- An order that has ended has no pending payment, within the bound.
select o.id as subject, concat_ws(' ', 'payment', p.id, p.status) as detail, count(*) over () as found
from payments p join orders o on o.id = p.order_id
where o.status in ('COMPLETED', 'CANCELLED') and p.status = 'PENDING'
  and greatest(o.updated_at, p.updated_at) <= :rest::timestamptz
limit :most;

-- name: checkouts_are_opened(rest, most)
-- A requested checkout gets its Stripe session, or fails with a reason, within the bound.
select order_id as subject, concat_ws(' ', 'payment', id) as detail, count(*) over () as found
from payments
where provider = 'stripe' and requested and status = 'PENDING' and session_id is null
  and updated_at <= :rest::timestamptz
limit :most;

-- name: calls_are_made(rest, most)
-- A due provider call is made within the bound, and succeeds within 15 attempts (about 8 minutes).
select order_id as subject, concat_ws(' ', kind, subject_id, 'tries', attempts) as detail,
    count(*) over () as found
from provider_calls
where done_at is null and (due_at <= :rest::timestamptz or attempts > 15)
order by due_at
limit :most;

-- name: refunds_are_asked_for(since, most)
-- Every refund of a Stripe payment has a provider call.
select p.order_id as subject, concat_ws(' ', 'refund', r.id) as detail, count(*) over () as found
from refunds r join payments p on p.id = r.payment_id
where p.provider = 'stripe' and r.created_at >= :since::timestamptz
  and not exists (select from provider_calls c where c.kind = 'refund' and c.subject_id = r.id)
limit :most;

-- name: reports_are_placed(rest, most)
-- A provider's report about an order's money is assigned to a payment within the bound; a refund, once
-- a session has told whose money it is.
select o.id as subject, concat_ws(' ', e.type, e.event_id) as detail, count(*) over () as found
from provider_events e
join orders o on o.id = coalesce(
    (select p.order_id from payments p where p.session_id = e.session_id),
    (select p.order_id from payments p where p.payment_intent = e.payment_intent),
    case when e.session_id is not null then e.order_id end
)
where e.payment_id is null and e.kind is not null
  and e.received_at <= :rest::timestamptz
limit :most;

-- name: reports_belong_to_payments(since, most)
-- A report's payment exists and is of the report's provider. The subject is the order, or the payment's
-- id if there is no such payment.
select coalesce(p.order_id, e.payment_id) as subject, concat_ws(' ', e.type, e.event_id) as detail,
    count(*) over () as found
from provider_events e left join payments p on p.id = e.payment_id
where e.payment_id is not null and e.received_at >= :since::timestamptz
  and (p.id is null or p.provider <> e.provider)
limit :most;
