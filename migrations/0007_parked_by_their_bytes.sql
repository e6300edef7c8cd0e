-- A partition that loses its end, or a topic that is made anew, gives the same offsets to other messages:
-- what was parked at one of them once must not keep out what comes there next.
alter table parked_messages drop constraint parked_messages_handler_topic_partition_offset_key;
create unique index parked_messages_once
    on parked_messages (handler, topic, partition, "offset", md5(coalesce(value, '')));
