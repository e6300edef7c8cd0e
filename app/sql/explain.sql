-- name: explain_order(id, within)^
-- An order with all that it may wait for: deadline, payments, reservation, refund, checkout to close (also one that a
-- call may have opened), oldest unsent event. Of each payment: its status, its checkout's, when it was created and
-- updated, when its checkout ended, and when the customer completed that with a delayed payment method. A call that
-- looks at a refund a month after it has succeeded is not waited for.
select o.id, o.user_id, o.status, o.total_minor, o.created_at, o.updated_at, d.due_at,
    r.outcome, r.created_at as decided_at, unsent.topic, unsent.occurred_at, (
        select json_agg(json_build_array(
            status,
            case when provider = 'stripe' then
                case when session_id is null then 'REQUESTED' else 'READY' end
            end,
            created_at,
            updated_at,
            case when expires_at <= now() then expires_at end,
            (
                select min(e.created_at)
                from provider_events e
                where e.session_id = payments.session_id
                  and e.type = 'checkout.session.completed' and e.kind is null
            )
        ) order by created_at)
        from payments where order_id = o.id
    ) as payments, (
        select count(*) from payments where order_id = o.id and created_at > now() - :within::interval
    ) as tries, (
        select min(c.due_at)
        from payments p
        join refunds r on r.payment_id = p.id
        join provider_calls c on c.kind = 'refund' and c.subject_id = r.id
        where p.order_id = o.id and p.status = 'REFUNDING' and c.done_at is null
          and c.due_at <= now() + interval '1 day'
    ) as refund_due_at, (
        select min(c.due_at)
        from payments p
        join provider_calls c on c.kind in ('session', 'expire') and c.subject_id = p.id
        where p.order_id = o.id and p.status = 'VOIDED' and c.done_at is null
    ) as closing_due_at
from orders o
left join order_deadlines d on d.order_id = o.id
left join reservations r on r.order_id = o.id
left join lateral (
    select topic, occurred_at
    from outbox
    where order_id = o.id and published_at is null
    order by sequence
    limit 1
) as unsent on true
where o.id = :id;
