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
-- Let one process migrate at a time, until its session ends.
select pg_advisory_lock(7070004);
