-- name: claim_key(user_id, key, fingerprint, expires_at)$
-- Claim a key that is free or expired; no row if it is taken. Waits for a concurrent claim to end.
insert into idempotency_keys (user_id, key, fingerprint, expires_at)
values (:user_id, :key, :fingerprint, :expires_at)
on conflict (user_id, key) do update
    set fingerprint = excluded.fingerprint, answer = null, expires_at = excluded.expires_at
    where idempotency_keys.expires_at <= now()
returning true;

-- name: taken_keys(user_ids, keys)
-- The keys that exist, expired or not, each with its request's fingerprint and its answer.
select user_id, key, fingerprint, answer, expires_at from idempotency_keys
where (user_id, key) in (select * from unnest(:user_ids::uuid[], :keys::text[]));

-- name: reap_keys(batch)!
-- Delete a batch of expired keys.
delete from idempotency_keys
where (user_id, key) in (
    select user_id, key from idempotency_keys where expires_at <= now() limit :batch for update skip locked
);
