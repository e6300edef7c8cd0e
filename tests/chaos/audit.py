"""The books: what must be true of every order, all money, all stock and all events."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.chaos.invariants import FAULTS
from tests.chaos.messages import lag, read_all
from tests.chaos.shop import Shop
from tests.chaos.waiting import comes_true

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
