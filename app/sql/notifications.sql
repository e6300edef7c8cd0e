-- name: take_due_mails(batch)
-- Lease due mails. Unless they are noted as sent, they become due again, with a growing backoff that is
-- never shorter than a slow server may need to accept them.
update notifications
set attempts = attempts + 1,
    due_at = now() + interval '1 minute' * greatest(5, least(power(2, least(attempts, 6)), 60))
where (order_id, kind, channel) in (
    select order_id, kind, channel
    from notifications
    where sent_at is null and due_at <= now()
    order by due_at
    limit :batch
    for update skip locked
)
returning order_id, kind, recipient, reason, attempts;

-- name: mails_failing()$
-- The number of mails that the mail server has not taken in two attempts or more, and of those given up
-- for that within a day. A refused address is not its fault, and has another failure.
select (
    select count(*) from notifications where sent_at is null and attempts > 2
) + (
    select count(*) from notifications
    where failure like 'given up after %' and sent_at > now() - interval '1 day'
);

-- name: note_sent(order_id, kind, failure)!
-- Note that a mail was sent or, with a failure, that it will never be sent.
update notifications set sent_at = now(), failure = :failure
where order_id = :order_id and kind = :kind and channel = 'mail';
