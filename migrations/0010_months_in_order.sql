-- Months are dropped from the oldest on: what the audit misses of an order must have been dropped by age, and a month
-- that is kept because an event waits for an operator would make it look for events of later months that are gone.
create or replace function drop_outbox_partitions(moment timestamptz) returns integer language plpgsql as $$
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
