-- name: clock()$
-- What time it is for PostgreSQL.
select now();

-- name: ping()$
-- Whether PostgreSQL answers.
select 1;

-- name: applied_migrations()
-- What has been applied, oldest first.
select name, checksum from schema_migrations order by name;

-- name: note_migration(name, checksum)!
-- Remember an applied migration.
insert into schema_migrations (name, checksum) values (:name, :checksum);

-- name: prepare_migrations#
-- Where applied migrations are remembered.
create table if not exists schema_migrations (
    name       text primary key,
    checksum   text not null,
    applied_at timestamptz not null default now()
);

-- name: lock_migrations()!
-- Let one process migrate at a time, until its session ends. Who holds what: 7070001 relays, 7070002
-- audits, 7070003 makes a partition of the outbox, 7070004 migrates.
select pg_advisory_lock(7070004);
