"""The hops of an order one by one, without relay, Kafka and agents between them."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

from app import catalogue, orders, payments, placing, stock
from app.db.pools import Database
from app.identity.tokens import Identity
from app.kafka.decoding import read_event
from app.placing import Basket
from app.topics import Event, OrderPaid, PaymentRequested, PaymentSucceeded

ANN = Identity(uuid4(), "ann@example.com", "USER")
ADMIN = Identity(uuid4(), "boss@example.com", "ADMIN")

Handle = Callable[[Any, Any], Awaitable[None]]


async def add_product(database: Database, quantity: int = 10, **changes: Any) -> UUID:
    """Create a product with a unique name."""
    whole = {"name": f"Product {uuid4()}", "price_minor": 9999, "currency": "PLN"}
    whole |= {"quantity": quantity, "description": None, "category": None}
    return UUID((await catalogue.create_product(database, **{**whole, **changes}))["id"])


async def order_of(database: Database, pieces: dict[UUID, int]) -> UUID:
    """Place an order for Ann."""
    order, _ = await placing.place(
        database, placing.PlaceOrder(ANN, Basket(pieces, None), None, "a request")
    )
    return UUID(order["id"])


async def new_order(database: Database) -> UUID:
    """Place an order for Ann of one piece of a new product."""
    return await order_of(database, {await add_product(database): 1})


async def deliver(
    database: Database, handle: Handle, record: type[Event], *order_ids: UUID
) -> None:
    """Give a handler the orders' events of one type, in one transaction, as its agent does."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select payload from outbox where topic = $1 and order_id = any($2) order by id",
            record.topic_name,
            order_ids,
        )
    assert rows, f"no {record.topic_name}"
    async with database.transaction() as transaction:
        await handle(transaction, [read_event(record, row["payload"].encode()) for row in rows])


async def request_payment(database: Database, order_id: UUID) -> None:
    """Ask to pay the exact total, as Ann."""
    await payments.request_payment(
        database, payments.PayOrder(ANN, order_id, None, None, None, "a request")
    )


async def pay(database: Database, *order_ids: UUID) -> None:
    """Make the orders PAID."""
    for order_id in order_ids:
        await request_payment(database, order_id)
    await deliver(database, payments.capture, PaymentRequested, *order_ids)
    await deliver(database, orders.mark_paid, PaymentSucceeded, *order_ids)


async def reserve(database: Database, *order_ids: UUID) -> None:
    """Let inventory decide on PAID orders."""
    await deliver(database, stock.reserve, OrderPaid, *order_ids)


async def cancel(database: Database, order_id: UUID, **changes: Any) -> dict[str, Any]:
    """Cancel the order as Ann; `changes` override fields of the command."""
    whole = {"user": ANN, "reason": None, "versions": None, "key": None, "request_id": "a request"}
    command = orders.CancelOrder(order_id=order_id, **{**whole, **changes})
    return await orders.cancel_on_request(database, command)


async def status(database: Database, order_id: UUID) -> str:
    """Return the order's status."""
    _, order = await orders.get(database, order_id)
    return str(order["status"])


async def topics(database: Database, order_id: UUID) -> list[str]:
    """Return the topics of the order's events, oldest first."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select topic from outbox where order_id = $1 order by sequence", order_id
        )
    return [row["topic"] for row in rows]
