"""Requests beyond the worker's capacity are refused, and accepted ones are finished."""

import asyncio

import aiohttp
import asyncpg

from devstack.worker import Worker
from tests.acceptance.client import Api, eventually
from tests.acceptance.conftest import NewCustomer
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, slug

AT_ONCE = 300
"""More than a worker processes and queues."""


async def test_a_flood_of_new_orders_is_shed_and_leaves_nothing_behind(
    worker: Worker, environment: dict[str, str], new_customer: NewCustomer, admin: Admin
) -> None:
    product, known = await admin.adds(), new_customer()
    blocker = await asyncpg.connect(environment["DB_URL"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        customer = Customer(Api(session, worker.url), known.token, known.id, known.email)
        # No creation can end while this lock is held, so they pile up.
        async with blocker.transaction():
            await blocker.execute("lock table outbox in exclusive mode")
            flood = [asyncio.create_task(customer.place(product)) for _ in range(AT_ONCE)]
            done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        for answer in (task.result() for task in done):
            assert_problem(answer, 503)
            assert slug(answer) == "overloaded"
            assert int(answer.headers["Retry-After"]) > 0
        answers = await asyncio.gather(*flood)
        assert {answer.status for answer in answers} == {201, 503}, "some are let in and finished"
        placed = [answer for answer in answers if answer.status == 201]
        assert sum(len(page) for page in await customer.walk()) == len(placed)
        await customer.buys(product)
    await blocker.close()


WAITING = "select count(*) from pg_locks where relation = 'orders'::regclass and not granted"
POOL = 12
"""How many requests work with PostgreSQL at once."""


async def test_a_worker_whose_requests_all_wait_for_locks_is_ready(
    environment: dict[str, str], api: Api, customer: Customer
) -> None:
    """No other worker would do better, and this one goes on once the locks are free."""
    blocker = await asyncpg.connect(environment["DB_URL"])
    async with blocker.transaction():
        await blocker.execute("lock table orders in access exclusive mode")
        waiting = [asyncio.create_task(customer.ask("GET", "/api/orders")) for _ in range(5 * POOL)]
        await eventually(lambda: blocker.fetchval(WAITING), lambda count: count >= POOL)
        answers = await asyncio.gather(api.ask("GET", "/readyz"), api.ask("GET", "/health"))
    assert [answer.status for answer in answers] == [200, 200]
    await asyncio.gather(*waiting)
    await blocker.close()
