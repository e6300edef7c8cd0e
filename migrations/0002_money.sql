-- What customers pay, what providers report, what is to be refunded, and which calls of a provider are due.

-- requested: asked for here; money that Stripe reports is recorded also where nobody asked for it.
-- What was captured and refunded is worked out from provider_events, under the order's lock;
-- announced_minor of it stands on the timeline. max_failed_refunds: how many may fail before an operator has to act.
create table payments (
    id                 uuid primary key,
    order_id           uuid not null references orders,
    provider           text not null check (provider in ('internal', 'stripe')),
    amount_minor       bigint not null check (amount_minor between 0 and 999999999999999),
    currency           text not null,
    status             text not null check (status in (
        'PENDING', 'SUCCEEDED', 'FAILED', 'VOIDED', 'REFUNDING', 'REFUNDED', 'REFUND_FAILED'
    )),
    failure_reason     text,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    requested          boolean not null default true,
    session_id         text,
    payment_intent     text,
    checkout_url       text,
    expires_at         timestamptz,
    captured_minor     bigint not null default 0,
    captured_currency  text,
    refunded_minor     bigint not null default 0,
    announced_minor    bigint not null default 0,
    max_failed_refunds integer not null default 5
) with (fillfactor = 80);

create unique index payments_one_live on payments (order_id)
    where requested and status in ('PENDING', 'SUCCEEDED');
create index payments_by_order on payments (order_id);
-- Partial, so that they cost payments through other providers nothing.
create unique index payments_by_session on payments (session_id) where session_id is not null;
create unique index payments_by_intent on payments (payment_intent) where payment_intent is not null;
create index payments_refund_failed on payments (updated_at) where status = 'REFUND_FAILED';

-- Each event of a provider once, never changed but for payment_id, which is null while nobody knows
-- whose money it is. kind is null where the event says nothing of money. refund_id is our id of a refund
-- (refunds.id), provider_refund_id the provider's. request_id is of the webhook's request, null where there was
-- none. No foreign keys: the order or the payment may appear later, and a check would lock their rows.
create table provider_events (
    provider           text not null,
    event_id           text not null,
    type               text not null,
    created_at         timestamptz not null,
    received_at        timestamptz not null,
    order_id           uuid,
    attempt_id         uuid,
    session_id         text,
    payment_intent     text,
    payment_id         uuid,
    kind               text check (kind in ('captured', 'failed', 'refund', 'refunded_in_all')),
    amount_minor       bigint not null default 0,
    currency           text,
    provider_refund_id text,
    refund_status      text,
    refund_id          text,
    reason             text,
    request_id         text,
    payload            json,
    primary key (provider, event_id)
);

create index provider_events_by_payment on provider_events (payment_id) where payment_id is not null;
-- A checkout that was completed with a delayed payment method says nothing of money yet.
create index provider_events_delayed on provider_events (session_id)
    where type = 'checkout.session.completed' and kind is null;
create index provider_events_kept on provider_events (received_at)
    where payment_id is null and kind is not null;
create index provider_events_kept_by_order on provider_events (order_id)
    where payment_id is null and kind is not null;
create index provider_events_kept_by_session on provider_events (session_id)
    where payment_id is null and kind is not null;
create index provider_events_kept_by_intent on provider_events (payment_intent)
    where payment_id is null and kind is not null;

-- What a provider is asked to refund; the id is its idempotency key.
create table refunds (
    id                 uuid primary key,
    payment_id         uuid not null,
    amount_minor       bigint not null check (amount_minor > 0),
    provider_refund_id text unique,
    refused_reason     text,
    created_at         timestamptz not null
);

create index refunds_by_payment on refunds (payment_id);

-- Calls of Stripe: open the session of an attempt, expire it, make a refund. subject_id is the
-- payment's or the refund's. due_at moves on while a call is under way, so that it outlives a crash.
-- asked: what Stripe was asked first for a session. Under one idempotency key it takes nothing else, though a
-- product has another name by then, or a worker asks again that would send customers somewhere else.
create table provider_calls (
    kind       text not null check (kind in ('session', 'expire', 'refund')),
    subject_id uuid not null,
    order_id   uuid not null,
    payment_id uuid not null,
    request_id text not null,
    due_at     timestamptz not null,
    attempts   integer not null default 0,
    done_at    timestamptz,
    failure    text,
    asked      json,
    primary key (kind, subject_id)
);

create index provider_calls_due on provider_calls (due_at) where done_at is null;
select vacuum_often('provider_calls');
