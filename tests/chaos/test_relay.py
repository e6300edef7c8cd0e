"""Orders are committed and no worker is notified; their events wait in the outbox."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

from app import payments, placing
from app.db.pools import Database
from app.identity.tokens import USER, Identity
from devstack.worker import Worker
from tests.chaos.audit import audit, count, reading, rest
from tests.chaos.deployment import Deployment, frozen
from tests.chaos.load import PLENTIFUL
from tests.chaos.messages import read_all
from tests.chaos.waiting import until

ORDERS = 150
WAITING = "select count(*) from outbox where published_at is null"
PUBLISHED = "select count(*) from outbox where published_at is not null"


async def test_what_is_marked_as_published_is_in_kafka(deployment: Deployment) -> None:
    """Holds at every moment, though the worker is killed while it publishes."""
    placed = await commit_orders(deployment)
    assert await count(deployment, WAITING) == 2 * ORDERS
    worker = deployment.start_worker()
    async with deployment.supervised():
        await until(lambda: count(deployment, PUBLISHED), "the relay publishes")
        worker.kill()
        await until(lambda: nothing_waits(deployment), "everything is published", 90)
        assert await rest(deployment)
    await audit(deployment, placed)


async def test_two_workers_publish_each_event_once_and_in_sequence(deployment: Deployment) -> None:
    """One relays for both, and for a process that died before it could notify the leader."""
    workers = [await deployment.start_ready_worker(), await deployment.start_ready_worker()]
    placed = await commit_orders(deployment)
    assert await rest(deployment)
    await audit(deployment, placed)
    copies = Counter(dict(m.headers)["ce_id"] for m in await read_all(deployment.brokers))
    assert set(copies.values()) == {1}
    assert len(leaders(workers)) == 1


async def test_a_leader_that_stands_still_loses_the_lead(deployment: Deployment) -> None:
    """And its partitions; it goes on as one of the others."""
    workers = [await deployment.start_ready_worker(), await deployment.start_ready_worker()]
    await until(lambda: leaders(workers), "one of them leads")
    (leader,) = leaders(workers)
    with frozen(leader):
        placed = await commit_orders(deployment)
        await until(lambda: nothing_waits(deployment), "another publishes everything", 90)
        assert leaders(workers) == workers
    assert await rest(deployment)
    assert all(worker.alive for worker in workers)
    await audit(deployment, placed)


def leaders(workers: list[Worker]) -> list[Worker]:
    """Return the workers that lead or have led."""
    return [worker for worker in workers if "relays the outbox" in worker.log.read_text()]


async def commit_orders(deployment: Deployment) -> dict[str, str]:
    """Place orders and request payment, and notify no worker; return their expected ends."""
    customer = Identity(uuid4(), "customer@example.com", USER)
    async with open_database(deployment) as database:
        basket = placing.Basket(dict.fromkeys(await product_ids(deployment), 1), None)
        command = placing.PlaceOrder(customer, basket, None, "chaos")
        placed = [(await placing.place(database, command))[0]["id"] for _ in range(ORDERS)]
        for order in placed:
            await payments.request_payment(
                database, payments.PayOrder(customer, UUID(order), None, None, None, "chaos")
            )
    return dict.fromkeys(placed, "COMPLETED")


@asynccontextmanager
async def open_database(deployment: Deployment) -> AsyncIterator[Database]:
    """Open the application's own pool, without a relay to wake."""
    database = Database({"dsn": deployment.database}, 4)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def product_ids(deployment: Deployment) -> list[UUID]:
    """Return the ids of the plentiful products."""
    async with reading(deployment) as connection:
        query = "select id from products where name = any($1)"
        return [row["id"] for row in await connection.fetch(query, PLENTIFUL)]


async def nothing_waits(deployment: Deployment) -> bool:
    """Return whether everything is published; fail if a marked event is not in Kafka."""
    async with reading(deployment) as connection:
        events = await connection.fetch("select event_id, published_at from outbox")
    present = {
        dict(message.headers)["ce_id"].decode() for message in await read_all(deployment.brokers)
    }
    marked = {str(event["event_id"]) for event in events if event["published_at"]}
    assert marked <= present
    return len(marked) == len(events)
