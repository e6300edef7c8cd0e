"""Fill the tables with completed orders: paid, reserved, notified, with their events.

They are written by COPY in text format, in the order of their ids, which rise with time as the
service's own do. Customers' ids are spread evenly over all UUIDs, so that new ones fall between
them.
"""

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from bench.bare.events import event
from bench.site import Say

CHUNK = 50_000
"""Orders per COPY."""
NEWEST = timedelta(days=1)
"""The age of the newest order."""
SPAN = timedelta(days=19)
"""The period in which all were placed; with more than a million, the latest million."""
WITH_EVENTS = 1_000_000
"""How many of the latest orders have events; those of older ones count as dropped for their age.

The cut lies within a month: audit such books with --days.
"""
ORDERS_OF_A_USER = 50
TOPICS = (
    *("order.created", "order.payment_requested", "payment.succeeded"),
    *("order.paid", "inventory.reserved", "order.completed"),
)
ORDER, PAYMENT = 0, 1
PRICE = 1000
"""In minor units."""

COLUMNS = {
    "orders": "id user_id customer_email status total_minor currency version created_at updated_at",
    "order_items": "order_id line product_id quantity unit_price_minor",
    "payments": "id order_id provider amount_minor currency status captured_minor captured_currency"
    " created_at updated_at",
    "provider_events": "provider event_id type created_at received_at order_id payment_id kind"
    " amount_minor currency",
    "reservations": "order_id outcome created_at",
    "notifications": "order_id kind channel sent_at",
    "outbox": "event_id topic order_id sequence request_id occurred_at payload published_at",
}


class History:
    """The COPY lines of `orders` orders of those products, by table."""

    def __init__(self, orders: int, products: Sequence[str]) -> None:
        self._products = [product.replace("-", "") for product in products]
        self._step = 2**128 // max(1, orders)
        self._pace = SPAN / max(1, min(orders, WITH_EVENTS))
        self._begin = datetime.now(UTC) - NEWEST - orders * self._pace
        self._first_with_events = orders - WITH_EVENTS
        self._payloads = {topic: _payload(topic, n) for n, topic in enumerate(TOPICS, 1)}

    def lines(self, table: str, numbers: Sequence[int]) -> Iterator[str]:
        """Yield the lines of those orders in COPY's text format."""
        write = getattr(self, f"_{table}")
        return (line for number in numbers for line in write(number))

    def _id(self, number: int, kind: int = ORDER) -> str:
        """Return a UUID of version 7."""
        milliseconds = self._placed(number).timestamp() * 1000
        return f"{int(milliseconds):012x}7{kind:03x}8{number:015x}"

    def _payment(self, number: int) -> str:
        return self._id(number, PAYMENT)

    def _user(self, number: int) -> str:
        return f"{(number - number % ORDERS_OF_A_USER) * self._step:032x}"

    def _placed(self, number: int) -> datetime:
        return self._begin + number * self._pace

    def _moment(self, number: int, milliseconds: int = 0) -> str:
        second = self._placed(number).isoformat(timespec="seconds")
        return f"{second[:19]}.{milliseconds:03d}Z"

    def _product(self, number: int) -> str:
        return self._products[number % len(self._products)]

    def _orders(self, number: int) -> Iterator[str]:
        user, moment = self._user(number), self._moment(number)
        told = f"{user[:12]}@example.com\tCOMPLETED\t{PRICE}\tPLN\t{len(TOPICS)}"
        yield f"{self._id(number)}\t{user}\t{told}\t{moment}\t{moment}\n"

    def _order_items(self, number: int) -> Iterator[str]:
        yield f"{self._id(number)}\t1\t{self._product(number)}\t1\t{PRICE}\n"

    def _payments(self, number: int) -> Iterator[str]:
        moment = self._moment(number)
        paid = f"internal\t{PRICE}\tPLN\tSUCCEEDED\t{PRICE}\tPLN"
        yield f"{self._payment(number)}\t{self._id(number)}\t{paid}\t{moment}\t{moment}\n"

    def _provider_events(self, number: int) -> Iterator[str]:
        payment, moment = self._payment(number), self._moment(number)
        event_id = f"captured {_dashed(payment)}"
        head = f"internal\t{event_id}\tcaptured\t{moment}\t{moment}"
        yield f"{head}\t{self._id(number)}\t{payment}\tcaptured\t{PRICE}\tPLN\n"

    def _reservations(self, number: int) -> Iterator[str]:
        yield f"{self._id(number)}\tRESERVED\t{self._moment(number)}\n"

    def _notifications(self, number: int) -> Iterator[str]:
        yield f"{self._id(number)}\tcompleted\tlog\t{self._moment(number)}\n"

    def _outbox(self, number: int) -> Iterator[str]:
        if number < self._first_with_events:
            return
        id, payment = self._id(number), self._payment(number)
        names = {"order": _dashed(id), "payment": _dashed(payment)}
        for place, (topic, payload) in enumerate(self._payloads.items(), 1):
            event_id = f"{random.getrandbits(128):032x}"
            moment = self._moment(number, place)
            head = f"{event_id}\t{topic}\t{id}\t{place}\t{event_id}\t{moment}"
            yield f"{head}\t{payload % names}\t{moment}\n"


async def fill(database: str, orders: int, products: Sequence[str], say: Say) -> None:
    """Insert `orders` orders, and take their pieces from the products' stock."""
    history = History(orders, products)
    connection = await asyncpg.connect(database)
    try:
        # The rows are consistent by construction, and the auditor checks them; triggers are slow.
        await connection.execute("set session_replication_role = replica")
        for ago in (NEWEST + SPAN, NEWEST):
            await connection.execute("select make_outbox_partition($1)", datetime.now(UTC) - ago)
        for first in range(0, orders, CHUNK):
            numbers = range(first, min(first + CHUNK, orders))
            for table, columns in COLUMNS.items():
                rows = _blocks(history.lines(table, numbers))
                await connection.copy_to_table(table, source=rows, columns=columns.split())
            say(f"{numbers[-1] + 1:,} of {orders:,} orders are in the tables")
        await _take_stock(connection, orders, products)
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


async def _take_stock(connection: asyncpg.Connection, orders: int, products: Sequence[str]) -> None:
    each, more = divmod(orders, len(products))
    taken = [(product, each + (place < more)) for place, product in enumerate(products)]
    statement = "update products set available = available - $2 where id = $1"
    await connection.executemany(statement, taken)


async def _blocks(lines: Iterator[str]) -> AsyncIterator[bytes]:
    block: list[str] = []
    for line in lines:
        block.append(line)
        if len(block) == 1000:
            yield "".join(block).encode()
            block.clear()
    yield "".join(block).encode()


def _payload(topic: str, sequence: int) -> str:
    """Return the payload of an event of typical length, with placeholders for the ids."""
    money = {"totalAmount": 10, "currency": "PLN", "userId": "0" * 36}
    more = money | {"paymentId": "%(payment)s"}
    more |= {"answer": {**more, "items": [money]}} if sequence == 1 else {}
    return event(topic, "%(order)s", sequence, "0" * 36, **more).payload


def _dashed(hex: str) -> str:
    return f"{hex[:8]}-{hex[8:12]}-{hex[12:16]}-{hex[16:20]}-{hex[20:]}"
