-- name: write_changes(now, placed, lines, orders, payments, reports, refunds, calls, outcomes, taken, notifications, keys, events)
-- Write all changes of a transaction: new orders with their lines and deadlines, changed orders,
-- payments with reports about them, refunds and due calls, inventory's decisions (one per order) and
-- the stock that they reserve, notifications, answers of idempotency keys, and events. All parameters
-- but the first are JSON arrays of rows. Returns the products' new versions, and the notifications that are new. A
-- notification is written if its order has the status that it reports; an order that does not exist is
-- an error. Nothing is written if an order has changed since it was read, or if a key exists that this
-- transaction has not claimed: such a row gets a null that its column's constraint rejects.
with placed_orders as (
    insert into orders (id, user_id, customer_email, status, total_minor, currency, version, created_at, updated_at)
    select id, user_id, customer_email, 'CREATED', total_minor, currency, 1, created_at, created_at
    from json_to_recordset(:placed::json) as o (
        id uuid, user_id uuid, customer_email text, total_minor bigint, currency text,
        created_at timestamptz
    )
), placed_lines as (
    insert into order_items (order_id, line, product_id, quantity, unit_price_minor)
    select order_id, line, product_id, quantity, unit_price_minor
    from json_to_recordset(:lines::json) as l (
        order_id uuid, line integer, product_id uuid, quantity bigint, unit_price_minor bigint
    )
), deadlines as (
    insert into order_deadlines (order_id, due_at)
    select id, due_at from json_to_recordset(:placed::json) as o (id uuid, due_at timestamptz)
), saved_orders as (
    update orders
    set status = changed.status, cancel_reason = changed.cancel_reason, updated_at = changed.updated_at,
        version = case when orders.version = changed.read_version then changed.version end
    from json_to_recordset(:orders::json) as changed (
        id uuid, read_version integer, status text, version integer, cancel_reason text,
        updated_at timestamptz
    )
    where orders.id = changed.id
), saved_payments as (
    insert into payments (
        id, order_id, provider, amount_minor, currency, status, failure_reason, requested, session_id,
        payment_intent, checkout_url, expires_at, captured_minor, captured_currency, refunded_minor,
        announced_minor, max_failed_refunds, created_at, updated_at
    )
    select id, order_id, provider, amount_minor, currency, status, failure_reason, requested, session_id,
        payment_intent, checkout_url, expires_at, captured_minor, captured_currency, refunded_minor,
        announced_minor, max_failed_refunds, :now, :now
    from json_to_recordset(:payments::json) as p (
        id uuid, order_id uuid, provider text, amount_minor bigint, currency text, status text,
        failure_reason text, requested boolean, session_id text, payment_intent text, checkout_url text,
        expires_at timestamptz, captured_minor bigint, captured_currency text, refunded_minor bigint,
        announced_minor bigint, max_failed_refunds integer
    )
    on conflict (id) do update
        set status = excluded.status, failure_reason = excluded.failure_reason,
            session_id = excluded.session_id, payment_intent = excluded.payment_intent,
            checkout_url = excluded.checkout_url, captured_minor = excluded.captured_minor,
            captured_currency = excluded.captured_currency, refunded_minor = excluded.refunded_minor,
            announced_minor = excluded.announced_minor, max_failed_refunds = excluded.max_failed_refunds,
            updated_at = :now
), saved_reports as (
    insert into provider_events (
        provider, event_id, type, created_at, received_at, order_id, payment_id, kind, amount_minor,
        currency, provider_refund_id, refund_status, refund_id, reason
    )
    select provider, event_id, type, :now, :now, order_id, payment_id, kind, amount_minor, currency,
        provider_refund_id, refund_status, refund_id, reason
    from json_to_recordset(:reports::json) as r (
        provider text, event_id text, type text, order_id uuid, payment_id uuid, kind text,
        amount_minor bigint, currency text, provider_refund_id text, refund_status text, refund_id text,
        reason text
    )
    on conflict do nothing
), saved_refunds as (
    insert into refunds (id, payment_id, amount_minor, provider_refund_id, refused_reason, created_at)
    select id, payment_id, amount_minor, provider_refund_id, refused_reason, :now
    from json_to_recordset(:refunds::json) as r (
        id uuid, payment_id uuid, amount_minor bigint, provider_refund_id text, refused_reason text
    )
    on conflict (id) do update
        set provider_refund_id = excluded.provider_refund_id, refused_reason = excluded.refused_reason
), saved_calls as (
    insert into provider_calls (kind, subject_id, order_id, payment_id, request_id, due_at)
    select kind, subject_id, order_id, payment_id, request_id, now() + make_interval(secs => wait_seconds)
    from json_to_recordset(:calls::json) as c (
        kind text, subject_id uuid, order_id uuid, payment_id uuid, request_id text,
        wait_seconds double precision
    )
    -- A finished call that expires a session may be needed again; other calls are made once.
    on conflict (kind, subject_id) do update
        set due_at = excluded.due_at, done_at = null, attempts = 0
        where provider_calls.kind = 'expire' and provider_calls.done_at is not null
), decided as (
    insert into reservations (order_id, outcome, created_at)
    select order_id, outcome, :now
    from json_to_recordset(:outcomes::json) as d (order_id uuid, outcome text)
), taken_products as (
    -- A check constraint keeps `available` from falling below zero.
    update products
    set available = available - taken.quantity, version = version + 1, updated_at = :now
    from json_to_recordset(:taken::json) as taken (id uuid, quantity bigint)
    where products.id = taken.id
    returning products.id, products.version
), told as (
    insert into notifications (order_id, kind, channel, recipient, reason, due_at, sent_at)
    select n.order_id, n.kind, n.channel, n.recipient, n.reason,
        case when not n.at_once then now() end, case when n.at_once then now() end
    from json_to_recordset(:notifications::json) as n (
        order_id uuid, kind text, channel text, recipient text, reason text, at_once boolean
    )
    left join orders o on o.id = n.order_id
    where o.id is null or o.status = upper(n.kind)
    on conflict do nothing
    returning order_id, kind, channel
), settled_keys as (
    insert into idempotency_keys (user_id, key, fingerprint, expires_at, answer)
    select user_id, key, decode(fingerprint, 'hex'), expires_at, answer
    from json_to_recordset(:keys::json) as k (
        user_id uuid, key text, fingerprint text, expires_at timestamptz, answer json
    )
    order by user_id, key
    on conflict (user_id, key) do update
        set answer = excluded.answer,
            expires_at = case
                when idempotency_keys.xmin = pg_current_xact_id()::xid then excluded.expires_at
            end
), emitted as (
    insert into outbox (event_id, topic, order_id, sequence, request_id, occurred_at, payload)
    select event_id, topic, order_id, sequence, request_id, occurred_at, payload
    from rows from (json_to_recordset(:events::json) as (
        event_id uuid, topic text, order_id uuid, sequence integer, request_id text,
        occurred_at timestamptz, payload json
    )) with ordinality
        as e (event_id, topic, order_id, sequence, request_id, occurred_at, payload, ordinal)
    order by ordinal
)
select id, version, null as kind, null as channel from taken_products
union all
select order_id, null, kind, channel from told;
