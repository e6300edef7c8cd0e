-- Accounts, catalogue, orders, stock and notifications.

-- Rows leave a queue at the old end of an index, where no new row ever comes: only vacuum removes their entries, which
-- every look would pass again. By default it waits for a fifth of the table.
create function vacuum_often(queue text) returns void language plpgsql as $$
begin
    execute format(
        'alter table %I set (autovacuum_vacuum_scale_factor = 0.01, vacuum_index_cleanup = on)', queue
    );
end $$;

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

-- Of one category, in each order of the catalogue.
create index products_by_category_and_name on products (category, name, id);
create index products_by_category_and_price on products (category, price_minor, id);
create index products_by_category_and_creation on products (category, created_at, id);

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

-- Lists take any set of statuses, and a page must cost the same wherever it lies: a status that few
-- orders have cannot be filtered out of an index without it. The price: an update that changes the
-- status (two of the five of a completed order; the others only count events) is not heap-only and
-- enters all three indexes. A partial index on the live states would cost that just as well, for
-- its predicate names the column, and would not serve CANCELLED. A list of all statuses merges
-- their four ranges, so that no further index is needed for it.
create index orders_by_user_and_status on orders (user_id, status, created_at desc, id desc);
create index orders_by_status on orders (status, created_at desc, id desc);

-- No foreign key to products: its share locks would queue behind every reservation of a hot product.
create table order_items (
    order_id         uuid not null references orders,
    line             smallint not null,
    product_id       uuid not null,
    quantity         bigint not null check (quantity between 1 and 100000000),
    unit_price_minor bigint not null check (unit_price_minor >= 0),
    primary key (order_id, line)
);

-- When an unpaid order is cancelled. No foreign key: its check would lock the order's row.
create table order_deadlines (
    order_id uuid primary key,
    due_at   timestamptz not null
);

create index order_deadlines_by_due on order_deadlines (due_at);
select vacuum_often('order_deadlines');

-- A reservation holds every line of its order or none, so the lines are the order's own.
create table reservations (
    order_id   uuid primary key references orders,
    outcome    text not null check (outcome in ('RESERVED', 'REJECTED', 'RELEASED')),
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
-- Every worker counts the mails that were given up lately, every few seconds. Nearly no row has a failure.
create index notifications_given_up on notifications (sent_at) where failure is not null;
select vacuum_often('notifications');
