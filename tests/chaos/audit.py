"""The books: what must be true of every order, all money, all stock and all events."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.chaos.messages import lag, read_all
from tests.chaos.shop import Shop
from tests.chaos.waiting import comes_true

COMPLETED = (
    "order.created order.payment_requested payment.succeeded order.paid"
    " inventory.reserved order.completed"
)
UNPAID = "order.created order.payment_requested payment.failed order.cancelled"
UNSTOCKED = (
    "order.created order.payment_requested payment.succeeded order.paid"
    " inventory.rejected order.cancelled payment.refund_requested payment.refunded"
)
"""The whole histories an order may have, each event once."""
BY_HAND = (
    "^order.created( order.payment_requested)? order.cancelled$|"
    "^order.created order.payment_requested payment.succeeded( order.paid( inventory.reserved)?)?"
    " order.cancelled payment.refund_requested payment.refunded$"
)
"""The histories of an order that was cancelled by hand, or expired."""

BUSY = """
select exists (select from outbox where published_at is null)
    or exists (select from orders where status not in ('COMPLETED', 'CANCELLED'))
    or exists (select from payments where status in ('PENDING', 'REFUNDING'))
    or exists (select from provider_calls where done_at is null)
    or exists (
        select from orders o join reservations r on r.order_id = o.id
        where o.status = 'CANCELLED' and r.outcome = 'RESERVED'
    )
    or exists (
        select from orders o
        where not exists (
            select from notifications n where n.order_id = o.id and n.sent_at is not null
        )
    )
"""

FAULTS = {
    "an order has not ended": """
        select id, status, version from orders where status not in ('COMPLETED', 'CANCELLED')
    """,
    "an order's history is none of those that end": f"""
        select o.id, o.status, string_agg(e.topic, ' ' order by e.sequence) as history
        from orders o left join outbox e on e.order_id = o.id
        group by o.id
        having coalesce(string_agg(e.topic, ' ' order by e.sequence), '') !~ case
            when o.status = 'COMPLETED' then '^{COMPLETED}$'
            when bool_or(e.topic = 'payment.failed') then '^{UNPAID}$'
            when o.cancel_reason = 'Out of stock' then '^{UNSTOCKED}$'
            else '{BY_HAND}'
        end
    """,
    "an order's sequences are not 1 to its version": """
        select o.id, o.version, array_agg(e.sequence order by e.sequence) as sequences
        from orders o left join outbox e on e.order_id = o.id
        group by o.id
        having array_agg(e.sequence order by e.sequence)
            <> array(select generate_series(1, o.version))
    """,
    "a type of event happened twice to an order": """
        select order_id, topic, count(*) from outbox group by order_id, topic having count(*) > 1
    """,
    "an event belongs to no order": """
        select event_id, topic from outbox where order_id not in (select id from orders)
    """,
    "an event id was given twice": """
        select event_id, count(*) from outbox group by event_id having count(*) > 1
    """,
    "an event is not published": """
        select id, order_id, sequence, topic from outbox where published_at is null
    """,
    "an event was published before its forerunner": """
        select late.order_id, late.sequence, late.topic
        from outbox early join outbox late using (order_id)
        where early.sequence < late.sequence and early.published_at >= late.published_at
    """,
    "an order is completed otherwise than by one payment of its exact total": """
        select o.id, o.status, array_agg(p.amount_minor) as amounts, o.total_minor
        from orders o left join payments p on p.order_id = o.id and p.status = 'SUCCEEDED'
        group by o.id
        having (o.status = 'COMPLETED')
            <> (count(p.id) = 1 and coalesce(sum(p.amount_minor), -1) = o.total_minor
                and bool_and(p.currency = o.currency))
    """,
    "an order is completed otherwise than with its stock reserved": """
        select o.id, o.status, r.outcome
        from orders o left join reservations r on r.order_id = o.id
        where (o.status = 'COMPLETED') <> (coalesce(r.outcome, '') = 'RESERVED')
    """,
    "money of a cancelled order was not given back": """
        select o.id, p.id as payment, p.status
        from orders o join payments p on p.order_id = o.id
        where o.status = 'CANCELLED' and p.status not in ('REFUNDED', 'FAILED', 'VOIDED')
    """,
    "captured money is not where it belongs": """
        select o.id, o.status, p.id as payment, p.status as payment_status
        from outbox e join orders o on o.id = e.order_id
            join payments p on p.id = (e.payload ->> 'paymentId')::uuid
        where e.topic = 'payment.succeeded'
            and p.status <> case when o.status = 'COMPLETED' then 'SUCCEEDED' else 'REFUNDED' end
    """,
    "captured money is neither kept nor refunded": """
        select id, order_id, status, captured_minor, refunded_minor from payments
        where refunded_minor <> case when status = 'SUCCEEDED' then 0 else captured_minor end
    """,
    "a payment's money is not what was reported of it": """
        select p.id, p.status, p.captured_minor, p.refunded_minor, json_agg(e) as reported
        from payments p left join provider_events e on e.payment_id = p.id
        group by p.id
        having p.captured_minor <> coalesce(
                max(e.amount_minor) filter (where e.kind = 'captured'), 0)
            or p.refunded_minor <> coalesce(
                sum(e.amount_minor) filter (where e.kind = 'refund'), 0)
    """,
    "a payment was refunded otherwise than once, as it was asked for and told": """
        select p.id, p.status, p.refunded_minor, p.told_minor, array_agg(r.amount_minor) as asked
        from payments p left join refunds r on r.payment_id = p.id
        group by p.id
        having p.refunded_minor <> p.told_minor or count(r.id) > 1
            or p.refunded_minor <> coalesce(sum(r.amount_minor), 0)
    """,
    "stock is not what was stocked minus what was reserved": """
        select p.name, p.stocked, p.available, coalesce(sum(taken.quantity), 0) as reserved
        from products p left join (
            select product_id, quantity from order_items join reservations using (order_id)
            where outcome = 'RESERVED'
        ) taken on taken.product_id = p.id
        group by p.id
        having p.available <> p.stocked - coalesce(sum(taken.quantity), 0) or p.available < 0
    """,
    "an ended order was not told exactly once": """
        select o.id, o.status, array_agg(n.kind) as kinds
        from orders o left join notifications n on n.order_id = o.id
        group by o.id
        having count(n.order_id) <> 1 or bool_or(lower(o.status) <> n.kind or n.sent_at is null)
    """,
}
"""Sentence by query; a query finds what makes the sentence true."""

TABLES = (
    *("orders", "order_items", "payments", "reservations"),
    *("provider_events", "refunds", "provider_calls"),
    *("outbox", "products", "notifications", "idempotency_keys"),
)


@asynccontextmanager
async def reading(shop: Shop) -> AsyncIterator[asyncpg.Connection]:
    """A connection to PostgreSQL that cannot write."""
    settings = {"default_transaction_read_only": "on"}
    connection = await asyncpg.connect(shop.database, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def count(shop: Shop, query: str) -> int:
    """The number that the query asks for."""
    async with reading(shop) as connection:
        return int(await connection.fetchval(query))


async def snapshot(shop: Shop) -> dict[str, list[Any]]:
    """Every row that an event could change, by table."""
    async with reading(shop) as connection:
        return {
            table: sorted(map(str, await connection.fetch(f"select * from {table}")))
            for table in TABLES
        }


async def rest(shop: Shop, seconds: float = 60) -> bool:
    """Wait until nothing is left to do; whether that came about."""

    async def is_at_rest() -> bool:
        async with reading(shop) as connection:
            if await connection.fetchval(BUSY):
                return False
        return not await lag(shop.brokers)

    return await comes_true(is_at_rest, seconds)


async def audit(shop: Shop, promised: Mapping[str, str | None]) -> None:
    """Fail the test with everything that is wrong with the books, once all has come to rest.

    `promised` are the orders that customers were promised, and the end each of them saw.
    """
    faults = {} if await rest(shop) else {"it has not come to rest": [await lag(shop.brokers)]}
    async with reading(shop) as connection:
        for sentence, query in FAULTS.items():
            faults[sentence] = await connection.fetch(query)
        orders = await connection.fetch("select id, status from orders")
        events = await connection.fetch("select * from outbox order by order_id, sequence")
    faults |= _compare({str(order["id"]): order["status"] for order in orders}, promised)
    faults |= _missing(events, await read_all(shop.brokers))
    assert not (found := _told(faults)), "\n".join(found)


def _compare(orders: Mapping[str, str], promised: Mapping[str, str | None]) -> dict[str, list[Any]]:
    return {
        "an order was promised and is not there": [i for i in promised if i not in orders],
        "an order is there that nobody was promised": [i for i in orders if i not in promised],
        "an order ended otherwise than its customer saw": [
            (i, promised[i], orders[i])
            for i in promised
            if i in orders and promised[i] != orders[i]
        ],
    }


def _missing(events: Iterable[asyncpg.Record], messages: list[Any]) -> dict[str, list[Any]]:
    copies = defaultdict(list)
    for message in messages:
        copies[dict(message.headers).get("ce_id", b"").decode()].append(message)
    firsts = [(event, copies.pop(str(event["event_id"]), [])) for event in events]
    return {
        "an event is not in Kafka": [event["event_id"] for event, found in firsts if not found],
        "a message differs from its event": [
            (event["event_id"], message)
            for event, found in firsts
            for message in found
            if not _is_of(message, event)
        ],
        "a message is of no event (a dead letter, perhaps)": list(copies.values()),
        "an order's first copies are out of sequence in a partition": _out_of_sequence(
            [(event, found[0]) for event, found in firsts if found]
        ),
    }


def _is_of(message: Any, event: asyncpg.Record) -> bool:
    place = (message.topic, message.key.decode(), message.value.decode())
    return place == (event["topic"], str(event["order_id"]), event["payload"])


def _out_of_sequence(firsts: Iterable[tuple[asyncpg.Record, Any]]) -> list[Any]:
    """Of each order, the events whose first copy lies before that of an earlier event."""
    last: dict[tuple[str, int, str], int] = {}
    wrong = []
    for event, message in firsts:
        place = (message.topic, message.partition, str(event["order_id"]))
        if message.offset < last.get(place, -1):
            wrong.append((event["order_id"], event["sequence"], event["topic"]))
        last[place] = message.offset
    return wrong


def _told(faults: Mapping[str, list[Any]]) -> list[str]:
    return [
        f"{sentence} ({len(rows)} times): {[str(row) for row in rows[:4]]}"
        for sentence, rows in faults.items()
        if rows
    ]
