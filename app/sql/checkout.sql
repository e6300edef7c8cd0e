-- name: latest_checkout(order_id)^
-- An order's owner and status, and its live payment attempt through Stripe, else its latest, if any.
select o.user_id, o.status as order_status, p.status, p.checkout_url, p.failure_reason
from orders o
left join lateral (
    select status, checkout_url, failure_reason
    from payments
    where order_id = o.id and provider = 'stripe' and requested
    order by status in ('PENDING', 'SUCCEEDED') desc, created_at desc, id desc
    limit 1
) as p on true
where o.id = :order_id;

-- name: live_payments(order_id, within)
-- The deadline of a locked order and the number of its latest attempts to pay, joined with its pending and
-- succeeded payments, if any.
select d.due_at, p.provider, p.status, p.checkout_url,
    (
        select count(*) from payments where order_id = o.id and created_at > now() - :within::interval
    ) as attempts
from (values (:order_id::uuid)) as o (id)
left join order_deadlines d on d.order_id = o.id
left join payments p on p.order_id = o.id and p.status in ('PENDING', 'SUCCEEDED');
