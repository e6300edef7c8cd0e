-- name: take_due_calls(batch, lease)
-- Lease due calls. Unless they are noted as done, they become due again after the lease. `succeeded_at` is when
-- the provider was first known to say that a refund has succeeded.
with taken as (
    update provider_calls
    set attempts = attempts + 1, due_at = now() + :lease::interval
    where (kind, subject_id) in (
        select kind, subject_id from provider_calls
        where done_at is null and due_at <= now()
        order by due_at
        limit :batch
        for update skip locked
    )
    returning kind, subject_id, order_id, payment_id, request_id, attempts
)
select taken.*, p.status, p.session_id, p.payment_intent, p.currency, p.expires_at, r.amount_minor,
    r.provider_refund_id, (
        select min(e.created_at)
        from provider_events e
        where e.payment_id = r.payment_id and e.provider_refund_id = r.provider_refund_id
            and e.refund_status = 'succeeded'
    ) as succeeded_at
from taken
join payments p on p.id = taken.payment_id
left join refunds r on r.id = taken.subject_id;

-- name: ask_for_session(payment_id, order_id, success_url, cancel_url)$
-- The content of the request for an attempt's session (JSON), stored at the first request, so that it
-- stays the same for retries: product names are those of that time, prices are the order's.
update provider_calls
set asked = coalesce(asked, json_build_object(
    'lines', (
        select json_agg(json_build_array(p.name, i.quantity, i.unit_price_minor) order by i.line)
        from order_items i join products p on p.id = i.product_id
        where i.order_id = :order_id
    ),
    'success_url', :success_url::text,
    'cancel_url', :cancel_url::text
))
where kind = 'session' and subject_id = :payment_id
returning asked;

-- name: postpone_call(kind, subject_id, wait, failure)!
-- Retry a call after `wait`.
update provider_calls set due_at = now() + :wait::interval, failure = :failure
where kind = :kind and subject_id = :subject_id and done_at is null;

-- name: call_once_more(kind, subject_id, wait, failure)!
-- Make an answered call again after `wait`. With a failure it counts as tried; without one its attempts
-- start from zero.
update provider_calls
set due_at = now() + :wait::interval, failure = :failure,
    attempts = case when :failure::text is null then 0 else attempts end
where kind = :kind and subject_id = :subject_id;

-- name: finish_call(kind, subject_id, failure)!
-- Note that a call is done or, with a failure, that it will not be made again.
update provider_calls set done_at = now(), failure = :failure
where kind = :kind and subject_id = :subject_id;

-- name: calls_waiting(patience)^
-- The number of unfinished calls of Stripe that were retried or are overdue, and of payments whose
-- refund has failed. `due_at` alone is not enough, since it has moved for a call in progress. Retries are
-- due within a day; the bound keeps refunds that are looked at a month later out of the count's way.
select
    (
        select count(*) from provider_calls
        where done_at is null and due_at <= now() + interval '1 day'
            and (attempts > 1 or due_at <= now() - :patience::interval)
    ) as overdue,
    (select count(*) from payments where status = 'REFUND_FAILED') as failed_refunds;
