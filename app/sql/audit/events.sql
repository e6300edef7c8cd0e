-- name: sequences_count_to_the_version(since, kept, most)
-- An order's events are numbered from 1 to its version without gaps.
select o.id as subject, concat('version ', o.version, ', ', count(e.id), ' events up to ', max(e.sequence))
        as detail,
    count(*) over () as found
from orders o left join outbox e on e.order_id = o.id
where o.updated_at >= :since::timestamptz and o.created_at >= :kept::timestamptz
group by o.id
having count(e.id) <> o.version or count(distinct e.sequence) <> o.version or max(e.sequence) <> o.version or min(e.sequence) <> 1
limit :most;

-- name: histories_lead_to_their_status(since, kept, most)
-- An order's status events are the steps that lead to its status, each once and in sequence.
select o.id as subject, concat_ws(': ', o.status, string_agg(e.topic, ' ' order by e.sequence)) as detail,
    count(*) over () as found
from orders o
left join outbox e on e.order_id = o.id and e.topic in (
    'order.created', 'order.paid', 'inventory.reserved', 'inventory.rejected', 'order.completed',
    'order.cancelled'
)
where o.updated_at >= :since::timestamptz and o.created_at >= :kept::timestamptz
group by o.id
having coalesce(string_agg(e.topic, ' ' order by e.sequence), '') !~ case o.status
    when 'CREATED' then '^order.created$'
    when 'PAID' then '^order.created order.paid( inventory.(reserved|rejected))?$'
    when 'COMPLETED' then '^order.created order.paid inventory.reserved order.completed$'
    else '^order.created( order.paid( inventory.(reserved|rejected))?)? order.cancelled$'
end
limit :most;

-- name: events_belong_to_orders(since, most)
-- Every event belongs to an order.
select e.order_id as subject, concat_ws(' ', e.topic, e.event_id) as detail, count(*) over () as found
from outbox e
where e.occurred_at >= :since::timestamptz
  and not exists (select from orders o where o.id = e.order_id)
limit :most;

-- name: event_ids_are_given_once(since, most)
-- No two events have the same id.
select min(order_id::text)::uuid as subject, event_id::text as detail, count(*) over () as found
from outbox
where occurred_at >= :since::timestamptz
group by event_id
having count(*) > 1
limit :most;

-- name: events_are_sent(rest, most)
-- Every event is published within the bound.
select order_id as subject, concat_ws(' ', sequence, topic) as detail, count(*) over () as found
from outbox
where published_at is null and occurred_at <= :rest::timestamptz
order by id
limit :most;

-- name: events_are_sent_in_sequence(since, most)
-- An order's events are published in sequence.
select order_id as subject, concat_ws(' ', sequence, topic) as detail, count(*) over () as found
from (
    select e.order_id, e.sequence, e.topic, e.published_at,
        lag(e.published_at, 1, '-infinity') over (partition by e.order_id order by e.sequence) as before
    from outbox e join orders o on o.id = e.order_id
    where o.updated_at >= :since::timestamptz
) as sent
where published_at is not null and (before is null or before >= published_at)
limit :most;
