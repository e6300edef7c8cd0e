-- Accounts, catalogue, orders, money, stock, and the outbox that carries every event.

create table users (
    id            uuid primary key,
    email         text not null unique check (email = lower(email)),
    password_hash text not null,
    role          text not null check (role in ('USER', 'ADMIN')),
    created_at    timestamptz not null
);

-- stocked   = initial + restocked, never lowered by a sale
-- available = stocked minus what live reservations hold
create table products (
    id          uuid primary key,
    name        text not null unique check (btrim(name) <> ''),
    price_minor bigint not null check (price_minor between 0 and 999999999999999),
    currency    text not null,
    description text,
    category    text,
    stocked     bigint not null check (stocked >= 0),
    available   bigint not null check (available between 0 and stocked),
    version     integer not null default 1,
    created_at  timestamptz not null,
    updated_at  timestamptz not null
);

create index products_by_name on products (name, id);
create index products_by_price on products (price_minor, id);
create index products_by_creation on products (created_at, id);

-- version counts the order's events: ETag, and sequence of the latest event.
create table orders (
    id             uuid primary key,
    user_id        uuid not null,
    customer_email text,
    status         text not null check (status in ('CREATED', 'PAID', 'COMPLETED', 'CANCELLED')),
    total_minor    bigint not null check (total_minor between 0 and 999999999999999),
    currency       text not null,
    cancel_reason  text check ((cancel_reason is not null) = (status = 'CANCELLED')),
    version        integer not null check (version > 0),
    created_at     timestamptz not null,
    updated_at     timestamptz not null
) with (fillfactor = 80);

create index orders_by_user on orders (user_id, created_at desc, id desc);

-- No foreign key to products: its share locks would queue behind every reservation of a hot product.
create table order_items (
    order_id         uuid not null references orders,
    line             smallint not null,
    product_id       uuid not null,
    quantity         bigint not null check (quantity between 1 and 100000000),
    unit_price_minor bigint not null check (unit_price_minor >= 0),
    primary key (order_id, line)
);

create table payments (
    id             uuid primary key,
    order_id       uuid not null references orders,
    provider       text not null check (provider in ('internal')),
    amount_minor   bigint not null check (amount_minor between 0 and 999999999999999),
    currency       text not null,
    status         text not null
        check (status in ('PENDING', 'SUCCEEDED', 'FAILED', 'VOIDED', 'REFUNDING', 'REFUNDED')),
    failure_reason text,
    created_at     timestamptz not null,
    updated_at     timestamptz not null
) with (fillfactor = 80);

create unique index payments_one_live on payments (order_id) where status in ('PENDING', 'SUCCEEDED');
create index payments_by_order on payments (order_id);

-- A reservation holds every line of its order or none, so the lines are the order's own.
create table reservations (
    order_id   uuid primary key references orders,
    outcome    text not null check (outcome in ('RESERVED', 'REJECTED')),
    created_at timestamptz not null
);

create table idempotency_keys (
    user_id     uuid not null,
    key         text not null,
    fingerprint bytea not null,
    answer      json,
    expires_at  timestamptz not null,
    primary key (user_id, key)
);

create index idempotency_keys_by_expiry on idempotency_keys (expires_at);

-- id orders the events of one order: it is drawn under the order's row lock.
create table outbox (
    id           bigint generated always as identity primary key,
    event_id     uuid not null,
    topic        text not null,
    order_id     uuid not null,
    sequence     integer not null,
    request_id   text not null,
    occurred_at  timestamptz not null,
    payload      json not null,
    published_at timestamptz,
    unique (order_id, sequence)
);

create index outbox_waiting on outbox (id) where published_at is null;

-- sent_at: told, or given up for the reason in failure. due_at: when a mail is to be tried (again).
create table notifications (
    order_id  uuid not null references orders,
    kind      text not null check (kind in ('completed', 'cancelled')),
    channel   text not null check (channel in ('log', 'mail')),
    recipient text,
    reason    text,
    attempts  integer not null default 0,
    due_at    timestamptz,
    sent_at   timestamptz,
    failure   text,
    primary key (order_id, kind, channel)
);

create index notifications_due on notifications (due_at) where sent_at is null;
