-- Rows leave these queues at the old end of an index, where no new row ever comes: only vacuum removes their
-- entries, which every look would pass again. By default it waits for a fifth of the table.

create or replace function vacuum_often(part text) returns void language plpgsql as $$
begin
    execute format(
        'alter table %I set (autovacuum_vacuum_scale_factor = 0.01, vacuum_index_cleanup = on)', part
    );
end $$;

create or replace function make_outbox_partition(moment timestamptz) returns void language plpgsql as $$
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

select vacuum_often(inhrelid::regclass::text) from pg_inherits where inhparent = 'outbox'::regclass;
select vacuum_often(name) from unnest(array['notifications', 'provider_calls', 'order_deadlines']) as name;
