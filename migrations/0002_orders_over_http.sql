-- What cancelling, expiry, lists, restocking and explaining over HTTP need.

alter table reservations drop constraint reservations_outcome_check;
alter table reservations add constraint reservations_outcome_check
    check (outcome in ('RESERVED', 'REJECTED', 'RELEASED'));

-- When an unpaid order is cancelled. No foreign key: its check would lock the order's row.
create table order_deadlines (
    order_id uuid primary key,
    due_at   timestamptz not null
);

create index order_deadlines_by_due on order_deadlines (due_at);

insert into order_deadlines (order_id, due_at)
select id, now() + interval '30 minutes' from orders where status = 'CREATED';

-- Lists take any set of statuses, and a page must cost the same wherever it lies: a status that few
-- orders have cannot be filtered out of an index without it. The price: an update that changes the
-- status (two of the five of a completed order; the others only count events) is not heap-only and
-- enters all three indexes. A partial index on the live states would cost that just as well, for
-- its predicate names the column, and would not serve CANCELLED. A list of all statuses merges
-- their four ranges, so that no further index is needed for it.
create index orders_by_user_and_status on orders (user_id, status, created_at desc, id desc);
create index orders_by_status on orders (status, created_at desc, id desc);
drop index orders_by_user;

-- Of one category, in each order of the catalogue.
create index products_by_category_and_name on products (category, name, id);
create index products_by_category_and_price on products (category, price_minor, id);
create index products_by_category_and_creation on products (category, created_at, id);

-- Messages that a handler could not take, as they stand in the topic dead_letter.
create table parked_messages (
    id        bigint generated always as identity primary key,
    handler   text not null,
    topic     text not null,
    partition integer not null,
    "offset"  bigint not null,
    order_id  uuid,
    key       bytea,
    value     bytea,
    headers   json not null,
    error     text not null,
    attempts  integer not null,
    parked_at timestamptz not null,
    unique (handler, topic, partition, "offset")
);

create index parked_messages_by_order on parked_messages (order_id) where order_id is not null;
