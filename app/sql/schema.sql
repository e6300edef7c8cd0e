-- name: clock()$
-- The time by PostgreSQL's clock.
select now();

-- name: ping()$
-- Succeeds if PostgreSQL answers.
select 1;

-- name: limit_lock_waits(timeout)$
-- Let this transaction fail if it waits longer for a lock (`5s`).
select set_config('lock_timeout', :timeout, true);

-- name: applied_migrations()
-- The applied migrations, oldest first.
select name, checksum from schema_migrations order by name;

-- name: note_migration(name, checksum)!
-- Record an applied migration.
insert into schema_migrations (name, checksum) values (:name, :checksum);

-- name: prepare_migrations#
-- Create the table of applied migrations.
create table if not exists schema_migrations (
    name       text primary key,
    checksum   text not null,
    applied_at timestamptz not null default now()
);

-- name: lock_migrations()!
-- Let one process migrate at a time, until its session ends. The advisory locks: 7070001 relay, 7070002
-- audit, 7070003 creating a partition of the outbox, 7070004 migrations.
select pg_advisory_lock(7070004);
