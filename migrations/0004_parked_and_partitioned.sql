-- Messages are parked per order, and taken up again by hand.

-- PARKED: its handler refused it. WAITING: it came behind one of its order, and was never tried.
-- holds_order: later messages of the order wait behind it. What was parked before this version
-- held nothing up, so what came behind it has been handled long ago.
-- place tells the order of parking; id is what operators name it by.
alter table parked_messages rename column id to place;
alter table parked_messages
    add column id uuid not null default gen_random_uuid() unique,
    add column state text not null default 'PARKED'
        check (state in ('PARKED', 'WAITING', 'REPLAYED', 'DISCARDED')),
    add column holds_order boolean not null default false,
    add column resolved_at timestamptz,
    add column resolved_by text,
    add column resolve_reason text,
    add check ((resolved_at is not null) = (state in ('REPLAYED', 'DISCARDED')));

alter table parked_messages alter column state drop default, alter column holds_order drop default;

create index parked_messages_holding on parked_messages (handler, order_id, "offset")
    where holds_order and resolved_at is null;
create index parked_messages_by_state on parked_messages (state, place);
create index parked_messages_by_handler on parked_messages (handler, state, place);
create index parked_messages_resolved on parked_messages (resolved_at) where resolved_at is not null;

-- The outbox in partitions of a month, so that what is old is dropped at once, not row by row.

alter table outbox rename to outbox_whole;
alter index outbox_pkey rename to outbox_whole_pkey;
alter index outbox_waiting rename to outbox_whole_waiting;

create sequence outbox_ids;

-- id orders the events of one order: it is drawn under the order's row lock.
-- A partitioned table has unique constraints only over its key, so (order_id, sequence) is unique
-- within each partition. Across two, the order's row lock and its version see to it, as ever.
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

-- Drop the partitions that end before a moment and hold nothing that waits to be sent; how many.
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
    loop
        execute format('select exists (select from %I where published_at is null)', part) into waits;
        continue when waits;
        -- The parent first, as everybody else does, so that no two wait in a circle.
        lock table only outbox in access exclusive mode;
        execute format('select exists (select from %I where published_at is null)', part) into waits;
        if not waits then
            execute format('drop table %I', part);
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end $$;

select make_outbox_partition(month)
from generate_series(
    (select coalesce(min(occurred_at), now()) from outbox_whole),
    now() + interval '92 days',
    interval '15 days'
) as month;

insert into outbox select * from outbox_whole order by id;
select setval('outbox_ids', (select coalesce(max(id), 0) + 1 from outbox_whole), false);
drop table outbox_whole;
