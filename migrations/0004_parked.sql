-- Messages that a handler could not take, for an operator to replay or discard.

-- PARKED: its handler refused it. WAITING: it came behind one of its order, and was never tried.
-- holds_order: later messages of the order wait behind it.
-- position tells the order of parking; id is what operators name it by.
create table parked_messages (
    position       bigint generated always as identity primary key,
    id             uuid not null default gen_random_uuid() unique,
    handler        text not null,
    topic          text not null,
    partition      integer not null,
    "offset"       bigint not null,
    order_id       uuid,
    key            bytea,
    value          bytea,
    headers        json not null,
    error          text not null,
    attempts       integer not null,
    parked_at      timestamptz not null,
    state          text not null check (state in ('PARKED', 'WAITING', 'REPLAYED', 'DISCARDED')),
    holds_order    boolean not null,
    resolved_at    timestamptz,
    resolved_by    text,
    resolve_reason text,
    check ((resolved_at is not null) = (state in ('REPLAYED', 'DISCARDED')))
);

-- A partition that loses its end, or a topic that is made anew, gives the same offsets to other messages:
-- what was parked at one of them once must not keep out what comes there next.
create unique index parked_messages_once
    on parked_messages (handler, topic, partition, "offset", md5(coalesce(value, '')));
create index parked_messages_by_order on parked_messages (order_id) where order_id is not null;
create index parked_messages_holding on parked_messages (handler, order_id, "offset")
    where holds_order and resolved_at is null;
create index parked_messages_by_state on parked_messages (state, position);
create index parked_messages_by_handler on parked_messages (handler, state, position);
create index parked_messages_resolved on parked_messages (resolved_at) where resolved_at is not null;
