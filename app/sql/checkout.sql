-- name: latest_checkout(order_id)^
-- An order's owner, and its latest attempt through Stripe, if any.
select o.user_id, p.status, p.checkout_url, p.failure_reason
from orders o
left join lateral (
    select status, checkout_url, failure_reason
    from payments
    where order_id = o.id and provider = 'stripe' and requested
    order by created_at desc, id desc
    limit 1
) as p on true
where o.id = :order_id;

-- name: live_payments(order_id)
-- The deadline of a locked order, beside each of its attempts that are pending or succeeded, if any.
select d.due_at, p.provider, p.status, p.checkout_url
from (values (:order_id::uuid)) as o (id)
left join order_deadlines d on d.order_id = o.id
left join payments p on p.order_id = o.id and p.status in ('PENDING', 'SUCCEEDED');

-- name: move_deadline(order_id, due_at)!
-- Let a locked order wait until then, if it does not wait longer already.
insert into order_deadlines (order_id, due_at) values (:order_id, :due_at)
on conflict (order_id) do update set due_at = greatest(order_deadlines.due_at, excluded.due_at);

-- name: checkout_lines(order_id)
-- What the customer pays for: names of today, prices of the order.
select p.name, i.quantity, i.unit_price_minor
from order_items i join products p on p.id = i.product_id
where i.order_id = :order_id
order by i.line;

-- name: take_due_calls(batch, lease)
-- Take calls that are due. They are due again after the lease, unless they are noted as done.
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
select taken.*, p.status, p.session_id, p.payment_intent, p.currency, p.expires_at, r.amount_minor
from taken
join payments p on p.id = taken.payment_id
left join refunds r on r.id = taken.subject_id;

-- name: postpone_call(kind, subject_id, wait, failure)!
-- Try a call again after `wait`.
update provider_calls set due_at = now() + :wait::interval, failure = :failure
where kind = :kind and subject_id = :subject_id and done_at is null;

-- name: finish_call(kind, subject_id, failure)!
-- Note that a call is done with: answered, or never to be made for the reason given.
update provider_calls set done_at = now(), failure = :failure
where kind = :kind and subject_id = :subject_id;

-- name: calls_waiting(patience)^
-- How many calls of Stripe were tried in vain, or made by nobody in time; and how many payments an
-- operator has to give back. A call under way has moved its `due_at`, so that alone tells too little.
select
    (
        select count(*) from provider_calls
        where done_at is null and (attempts > 1 or due_at <= now() - :patience::interval)
    ) as overdue,
    (select count(*) from payments where status = 'PARKED') as parked;

-- name: postpone_deadline(order_id, due_at)!
-- Look at a locked order's deadline again then, unless that comes later already.
update order_deadlines set due_at = greatest(due_at, :due_at) where order_id = :order_id;
