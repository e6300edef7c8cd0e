-- Messages are parked per order, and taken up again by hand.

-- PARKED: its handler refused it. WAITING: it came behind one of its order, and was never tried.
-- holds_order: later messages of the order wait behind it. What was parked before this version
-- held nothing up, so what came behind it has been handled long ago.
-- place tells the order of parking; id is what operators name it by.
alter table parked_messages rename column id to place;
alter table parked_messages
    add column id uuid not null default gen_random_uuid() unique,
    add column state text not null default 'PARKED'
        check (state in ('PARKED', 'WAITING', 'REPLAYED', 'DISCARDED')),
    add column holds_order boolean not null default false,
    add column resolved_at timestamptz,
    add column resolved_by text,
    add column resolve_reason text,
    add check ((resolved_at is not null) = (state in ('REPLAYED', 'DISCARDED')));

alter table parked_messages alter column state drop default, alter column holds_order drop default;

create index parked_messages_holding on parked_messages (handler, order_id, "offset")
    where holds_order and resolved_at is null;
create index parked_messages_by_state on parked_messages (state, place);
create index parked_messages_by_handler on parked_messages (handler, state, place);
create index parked_messages_resolved on parked_messages (resolved_at) where resolved_at is not null;
