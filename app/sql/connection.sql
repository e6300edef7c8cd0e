-- The advisory locks that a session holds: 7070001 relay, 7070002 audit, 7070003 creating a partition of the
-- outbox, 7070004 migrations.

-- name: clock()$
-- The time by PostgreSQL's clock.
select now();

-- name: ping()$
-- Succeeds if PostgreSQL answers.
select 1;

-- name: limit_lock_waits(timeout)$
-- Let this transaction fail if it waits longer for a lock (`5s`).
select set_config('lock_timeout', :timeout, true);
