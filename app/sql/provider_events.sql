-- name: order_of_report(attempt_id, session_id, payment_intent)$
-- The order of the payment that a report refers to. The attempt id in a session's metadata counts only if
-- the attempt's session is not known: metadata may have been copied to another session at Stripe.
select order_id from payments
where session_id = :session_id::text or payment_intent = :payment_intent::text
    or (id = :attempt_id::uuid and provider = 'stripe' and session_id is null)
order by (session_id = :session_id::text) is true desc, (payment_intent = :payment_intent::text) is true desc
limit 1;

-- name: insert_provider_event(provider, event_id, type, created_at, now, order_id, attempt_id, session_id, payment_intent, kind, amount_minor, currency, provider_refund_id, refund_status, refund_id, reason, request_id, payload)$
-- Insert a new event; no row if it is known already.
insert into provider_events (
    provider, event_id, type, created_at, received_at, order_id, attempt_id, session_id, payment_intent,
    kind, amount_minor, currency, provider_refund_id, refund_status, refund_id, reason,
    request_id, payload
)
values (
    :provider, :event_id, :type, :created_at, :now, :order_id, :attempt_id, :session_id, :payment_intent,
    :kind, :amount_minor, :currency, :provider_refund_id, :refund_status, :refund_id, :reason,
    :request_id, :payload
)
on conflict do nothing
returning true;

-- name: kept_events(order_id, sessions, intents)
-- Kept events of a locked order that are not assigned to a payment: by its payments' sessions or intents,
-- or by the order's id where they have a session. A refund that names the order waits until a session
-- tells the intent. Events whose session or intent another order's payment has are left to that order.
select provider, event_id, attempt_id, session_id, payment_intent,
    kind, amount_minor, currency, provider_refund_id, refund_status, refund_id, reason, request_id
from provider_events e
where payment_id is null and kind is not null
  and (
      session_id = any(:sessions::text[]) or payment_intent = any(:intents::text[])
      or (
          order_id = :order_id and session_id is not null
          and not exists (
              select from payments p where p.session_id = e.session_id and p.order_id <> :order_id
          )
          and not exists (
              select from payments p
              where p.payment_intent = e.payment_intent and p.order_id <> :order_id
          )
      )
  )
order by created_at, event_id;

-- name: assign_events(provider, event_ids, payment_ids)!
-- Assign kept events to their payments.
update provider_events e set payment_id = assigned.payment_id
from unnest(:event_ids::text[], :payment_ids::uuid[]) as assigned (event_id, payment_id)
where e.provider = :provider and e.event_id = assigned.event_id;

-- name: orders_with_kept_events(kept_for, batch, quarantined)
-- Orders with kept events that can be assigned: they arrived before the order, its session or its
-- intent was committed. Without those in quarantine. Those kept for longer, mostly of other users of
-- the account, are left out.
with kept as (
    select order_id, session_id, payment_intent
    from provider_events
    where payment_id is null and kind is not null and received_at > now() - :kept_for::interval
)
select id
from (
    select o.id
    from kept e join orders o on o.id = e.order_id
    where e.session_id is not null
      and not exists (select from payments p where p.session_id = e.session_id)
      and not exists (select from payments p where p.payment_intent = e.payment_intent)
    union
    select p.order_id from kept e join payments p on p.session_id = e.session_id
    union
    select p.order_id from kept e join payments p on p.payment_intent = e.payment_intent
) as found
where id <> all(:quarantined::uuid[])
limit :batch;
