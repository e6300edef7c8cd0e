-- name: claim_notifications(order_ids, kind, channel)
-- The orders whose notification of this kind was not sent through this channel yet.
insert into notifications (order_id, kind, channel)
select order_id, :kind, :channel from unnest(:order_ids::uuid[]) as n (order_id)
on conflict (order_id, kind, channel) do update set kind = excluded.kind where notifications.sent_at is null
returning order_id;

-- name: mark_notified(order_ids, failures, kind, channel)!
-- Note that these are done with: sent, or never to be sent for the reason given.
update notifications
set sent_at = now(), failure = done.failure
from unnest(:order_ids::uuid[], :failures::text[]) as done (order_id, failure)
where notifications.order_id = done.order_id and kind = :kind and channel = :channel;
