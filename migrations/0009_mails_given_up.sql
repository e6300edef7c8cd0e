-- Every worker counts the mails that were given up lately, every few seconds. Nearly no row has a failure.
create index notifications_given_up on notifications (sent_at) where failure is not null;
