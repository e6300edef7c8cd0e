-- name: note_notifications(order_ids, kind, channel)
-- Note that these are told through a channel that tells at once; those that were not told before, and
-- have ended so. An order that does not exist is an error.
insert into notifications (order_id, kind, channel, sent_at)
select n.order_id, :kind::text, :channel, now()
from unnest(:order_ids::uuid[]) as n (order_id)
left join orders o on o.id = n.order_id
where o.id is null or o.status = upper(:kind::text)
on conflict do nothing
returning order_id;

-- name: note_mails(order_ids, kind, recipients, reasons)!
-- Note mails that are to be sent, of orders that have ended so.
insert into notifications (order_id, kind, channel, recipient, reason, due_at)
select n.order_id, :kind::text, 'mail', n.recipient, n.reason, now()
from unnest(:order_ids::uuid[], :recipients::text[], :reasons::text[])
    as n (order_id, recipient, reason)
join orders o on o.id = n.order_id and o.status = upper(:kind::text)
on conflict do nothing;

-- name: take_due_mails(batch)
-- Take mails that are due. They are due again, later each time, unless they are noted as sent.
update notifications
set attempts = attempts + 1,
    due_at = now() + interval '1 minute' * least(power(2, least(attempts, 6)), 60)
where (order_id, kind, channel) in (
    select order_id, kind, channel
    from notifications
    where sent_at is null and due_at <= now()
    order by due_at
    limit :batch
    for update skip locked
)
returning order_id, kind, recipient, reason, attempts;

-- name: note_sent(order_id, kind, failure)!
-- Note that a mail is done with: sent, or never to be sent for the reason given.
update notifications set sent_at = now(), failure = :failure
where order_id = :order_id and kind = :kind and channel = 'mail';
