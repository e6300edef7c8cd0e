"""Customers cancel orders in progress while the worker is killed."""

import asyncio
import random
from uuid import UUID, uuid4

from app import orders, payments, placing
from app.db.pools import Database
from app.errors import NotCancellable
from app.identity.tokens import USER, Identity
from tests.chaos.audit import audit, count, reading
from tests.chaos.deployment import Deployment
from tests.chaos.load import PLENTIFUL
from tests.chaos.waiting import until

ORDERS, AT_ONCE = 150, 8
CUSTOMER = Identity(uuid4(), "customer@example.com", USER)
RELEASED = "select count(*) from reservations where outcome = 'RELEASED'"


async def test_what_is_cancelled_on_its_way_gives_everything_back(deployment: Deployment) -> None:
    """Whenever the cancel comes, the money is refunded and the stock released exactly once."""
    worker = await deployment.start_ready_worker()
    database = Database({"dsn": deployment.database}, 8)
    await database.open()
    try:
        async with deployment.supervised():
            basket = await pieces_of_each(deployment)
            at_once = asyncio.Semaphore(AT_ONCE)
            racing = [asyncio.create_task(race(database, basket, at_once)) for _ in range(ORDERS)]
            await asyncio.wait(racing[: ORDERS // 2])
            worker.kill()
            ends = dict(await asyncio.gather(*racing))
            await audit(deployment, ends)
    finally:
        await database.close()
    assert set(ends.values()) == {"CANCELLED", "COMPLETED"}
    assert await count(deployment, RELEASED), "no cancel met a reserved order"


async def pieces_of_each(deployment: Deployment) -> placing.Basket:
    """Return a basket with one piece of each plentiful product."""
    async with reading(deployment) as connection:
        query = "select id from products where name = any($1)"
        rows = await connection.fetch(query, PLENTIFUL)
    return placing.Basket({row["id"]: 1 for row in rows}, None)


async def race(
    database: Database, basket: placing.Basket, at_once: asyncio.Semaphore
) -> tuple[str, str]:
    """Place, pay and cancel an order at a random moment; return its id and final status."""
    async with at_once:
        order, _ = await placing.place(
            database, placing.PlaceOrder(CUSTOMER, basket, None, "chaos")
        )
        id = UUID(order["id"])
        await payments.request_payment(
            database, payments.PayOrder(CUSTOMER, id, None, None, None, "chaos")
        )
        await reaches(database, id, random.randint(2, 6))
        try:
            command = orders.CancelOrder(CUSTOMER, id, None, None, None, "chaos")
            await orders.cancel_on_request(database, command)
        except NotCancellable:
            return order["id"], "COMPLETED"
        return order["id"], "CANCELLED"


async def reaches(database: Database, order_id: UUID, version: int) -> None:
    """Wait until the order has had `version` events."""

    async def has_come() -> bool:
        return (await orders.get(database, order_id))[0] >= version

    await until(has_come, f"the order comes to version {version}")
