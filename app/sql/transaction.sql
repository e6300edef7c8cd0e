-- name: write_changes(now, order_ids, statuses, versions, cancel_reasons, order_times, payment_ids, payment_orders, providers, amounts, currencies, payment_statuses, failure_reasons, user_id, key, answer, event_ids, topics, event_orders, sequences, request_ids, event_times, payloads)!
-- What a transaction leaves: locked orders, payments, the answer to its key, and its events.
with saved_orders as (
    update orders
    set status = changed.status, version = changed.version,
        cancel_reason = changed.reason, updated_at = changed.updated_at
    from unnest(
        :order_ids::uuid[], :statuses::text[], :versions::int[], :cancel_reasons::text[],
        :order_times::timestamptz[]
    ) as changed (id, status, version, reason, updated_at)
    where orders.id = changed.id
), saved_payments as (
    insert into payments (
        id, order_id, provider, amount_minor, currency, status, failure_reason, created_at, updated_at
    )
    select id, order_id, provider, amount_minor, currency, status, reason, :now, :now
    from unnest(
        :payment_ids::uuid[], :payment_orders::uuid[], :providers::text[], :amounts::bigint[],
        :currencies::text[], :payment_statuses::text[], :failure_reasons::text[]
    ) as p (id, order_id, provider, amount_minor, currency, status, reason)
    on conflict (id) do update
        set status = excluded.status, failure_reason = excluded.failure_reason, updated_at = :now
), settled_key as (
    update idempotency_keys set answer = :answer::json
    where user_id = :user_id::uuid and key = :key::text
)
insert into outbox (event_id, topic, order_id, sequence, request_id, occurred_at, payload)
select event_id, topic, order_id, sequence, request_id, occurred_at::timestamptz, payload::json
from unnest(
    :event_ids::uuid[], :topics::text[], :event_orders::uuid[], :sequences::int[],
    :request_ids::text[], :event_times::text[], :payloads::text[]
) with ordinality as e (event_id, topic, order_id, sequence, request_id, occurred_at, payload, place)
order by place;
