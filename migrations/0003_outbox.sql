-- The outbox that carries every event, in partitions of a month: what is old is dropped at once, not row by row.

create sequence outbox_ids;

-- id orders the events of one order: it is drawn under the order's row lock.
-- A partitioned table has unique constraints only over its key, so (order_id, sequence) is unique
-- within each partition. Across two, the order's row lock and its version see to it.
create table outbox (
    id           bigint not null default nextval('outbox_ids'),
    event_id     uuid not null,
    topic        text not null,
    order_id     uuid not null,
    sequence     integer not null,
    request_id   text not null,
    occurred_at  timestamptz not null,
    payload      json not null,
    published_at timestamptz,
    primary key (id, occurred_at)
) partition by range (occurred_at);

alter sequence outbox_ids owned by outbox.id;
create index outbox_waiting on outbox (id) where published_at is null;

-- For events of a month that nobody has made a partition for: no order fails because of it.
create table outbox_other partition of outbox default;
create unique index outbox_other_by_order on outbox_other (order_id, sequence);
select vacuum_often('outbox_other');

-- The partition of the month (UTC) that a moment lies in, where it is missing; what came meanwhile
-- moves there.
create function make_outbox_partition(moment timestamptz) returns void language plpgsql as $$
declare
    since timestamptz := date_trunc('month', moment, 'UTC');
    until timestamptz := date_trunc('month', since + interval '32 days', 'UTC');
    part  text := 'outbox_' || to_char(since at time zone 'UTC', 'YYYY_MM');
begin
    perform pg_advisory_xact_lock(7070003);
    if to_regclass(part) is not null then
        return;
    end if;
    execute format('create table %I (like outbox including defaults)', part);
    perform vacuum_often(part);
    if since <= now() then
        -- Events of this month are being written. Whoever waits for outbox_other below has chosen it already, and would
        -- be refused by it after the attachment; so writers wait here, before they choose.
        lock table only outbox in share row exclusive mode;
    end if;
    -- Nothing may come to it between the strays' move and the attachment.
    lock table outbox_other in access exclusive mode;
    execute format(
        'with strays as (
            delete from outbox_other where occurred_at >= %L and occurred_at < %L returning *
        ) insert into %I select * from strays', since, until, part
    );
    execute format('create unique index on %I (order_id, sequence)', part);
    execute format(
        'alter table outbox attach partition %I for values from (%L) to (%L)', part, since, until
    );
end $$;

select make_outbox_partition(month)
from generate_series(now(), now() + interval '92 days', interval '15 days') as month;

-- Drop the partitions that end before a moment and hold nothing that waits to be sent; how many.
-- From the oldest on: what the audit misses of an order must have been dropped by age, and a month that is kept because
-- an event waits for an operator would make it look for events of later months that are gone.
create function drop_outbox_partitions(moment timestamptz) returns integer language plpgsql as $$
declare
    part    text;
    waits   boolean;
    dropped integer := 0;
begin
    for part in
        select c.relname
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{4}_[0-9]{2}$'
          and (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC'
              <= moment
        order by c.relname
    loop
        execute format('select exists (select from %I where published_at is null)', part) into waits;
        exit when waits;
        -- The parent first, as everybody else does, so that no two wait in a circle.
        lock table only outbox in access exclusive mode;
        execute format('select exists (select from %I where published_at is null)', part) into waits;
        exit when waits;
        execute format('drop table %I', part);
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;
