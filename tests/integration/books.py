"""Consistent books: a separate database with one order for each way an order can end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg

from app import orders, payments, placing, stock
from app.db.pools import Database
from app.db.rows import IdempotencyKey
from app.idempotency import expiry
from app.notify import Notifier
from app.operations.migrate import migrate_database
from app.topics import (
    InventoryRejected,
    InventoryReserved,
    OrderCancelled,
    OrderCompleted,
    PaymentFailed,
    PaymentRequested,
    RefundRequested,
)
from tests.integration.hops import (
    ANN,
    add_product,
    cancel,
    deliver,
    order_of,
    pay,
    reserve,
)

notifier = Notifier(sends_mail=True)


@dataclass(frozen=True)
class Books:
    """The ids in the books; `product` has ten pieces, orders are named after how they ended."""

    url: str
    database: Database
    product: UUID
    completed: UUID
    unpaid: UUID
    """Cancelled, because its payment was wrong."""
    unstocked: UUID
    """Cancelled because it was out of stock, and refunded."""
    released: UUID
    """Cancelled on request, after its stock was reserved."""
    waiting: UUID
    """Not paid yet, within its deadline."""
    user: UUID
    """The customer of all orders."""


@asynccontextmanager
async def books_in_order(server: str) -> AsyncIterator[Books]:
    """Create such a database on that server (a URL), and drop it on exit."""
    url = await _new_database(server)
    database = Database({"dsn": url}, 4)
    await database.open()
    try:
        await migrate_database(database, "PLN")
        async with database.connection() as connection:
            # The audit leaves out orders of the first hour of the oldest month.
            await connection.execute("select make_outbox_partition(now() - interval '2 hours')")
        yield await _trade(url, database)
    finally:
        await database.close()
        await _on(server, f"drop database {_name(url)} with (force)")


async def _new_database(server: str) -> str:
    name = f"books_{uuid4().hex}"
    await _on(server, f"create database {name}")
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


def _name(url: str) -> str:
    return urlsplit(url).path[1:]


async def _on(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    await connection.execute(statement)
    await connection.close()


async def _trade(url: str, database: Database) -> Books:
    product, scarce = await add_product(database), await add_product(database, 1)
    completed, rival = await order_of(database, {product: 2}), await order_of(database, {scarce: 1})
    unstocked = await order_of(database, {scarce: 1})
    for order_id in (completed, rival, unstocked):
        await pay(database, order_id)
        await reserve(database, order_id)
    await deliver(database, orders.complete, InventoryReserved, completed, rival)
    await deliver(database, orders.cancel_unstocked, InventoryRejected, unstocked)
    released = await _cancel_reserved(database, product)
    await _refund(database, unstocked, released)
    unpaid = await _pay_wrongly(database, product)
    await deliver(database, notifier.tell_completed, OrderCompleted, completed, rival)
    await deliver(database, notifier.tell_cancelled, OrderCancelled, unstocked, released, unpaid)
    waiting = await _place_with_key(database, product)
    async with database.connection() as connection:
        await _tell_all(connection)
    return Books(
        url, database, product, completed, unpaid, unstocked, released, waiting, user=ANN.id
    )


async def _cancel_reserved(database: Database, product: UUID) -> UUID:
    order_id = await order_of(database, {product: 3})
    await pay(database, order_id)
    await reserve(database, order_id)
    await cancel(database, order_id)
    await deliver(database, stock.release, OrderCancelled, order_id)
    return order_id


async def _refund(database: Database, *order_ids: UUID) -> None:
    await deliver(database, payments.request_refunds, OrderCancelled, *order_ids)
    await deliver(database, payments.refund, RefundRequested, *order_ids)


async def _pay_wrongly(database: Database, product: UUID) -> UUID:
    order_id = await order_of(database, {product: 1})
    await payments.request_payment(
        database, payments.PayOrder(ANN, order_id, 1, None, None, "a request")
    )
    await deliver(database, payments.capture, PaymentRequested, order_id)
    await deliver(database, orders.cancel_unpaid, PaymentFailed, order_id)
    return order_id


async def _place_with_key(database: Database, product: UUID) -> UUID:
    key = IdempotencyKey(ANN.id, "a key", b"a fingerprint", expiry(86_400))
    basket = placing.Basket({product: 1}, None)
    order, _ = await placing.place(database, placing.PlaceOrder(ANN, basket, key, "a request"))
    return UUID(order["id"])


async def _tell_all(connection: asyncpg.Connection) -> None:
    """Leave what the relay and the mail task leave, and a deadline for each unpaid order."""
    await connection.execute(
        "update outbox set published_at = clock_timestamp() + id * interval '1 microsecond'"
    )
    await connection.execute("update notifications set sent_at = now() where sent_at is null")
    await connection.execute("update order_deadlines set due_at = now() + interval '1 hour'")
