"""The cost of one order, counted instead of timed: the same on every machine, and it may not grow.

A worker with its own servers processes orders one after the other, each with an Idempotency-Key,
one line, and a payment. If a change lowers one of these numbers, lower the budget accordingly.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from devstack.ports import free_port
from devstack.stack import Stack
from devstack.worker import Worker
from tests.acceptance.calls import Calls
from tests.acceptance.client import Api, eventually
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.tokens import token
from tests.conftest import SECRET
from tests.furnish import furnish

ORDERS = 20

STATEMENTS = 13
"""Statements per order, without BEGIN and COMMIT, which only agents need.

One that reads and one that writes for each of create, pay, capture, PAID, reserve and COMPLETED;
one that writes for notify.
"""
MESSAGES = 13
"""Six events, a mark for each in the table of handled events, and the answer for replays."""
ROWS = 27
"""Rows inserted, updated or deleted per order.

Orders 6, lines 1, deadlines 1, keys 1, payments 2, reports 1, reservations 1, products 1,
notifications 1, outbox 12.
"""
CALLS = 13_400
"""Calls of Python functions by all threads, without the worker's idle activity in that time."""
IDLE_SECONDS = 3.0

STATEMENT = re.compile(
    r"^<orders (?:requests|agents)> LOG:  (?:statement|execute [^:]+): *(?! |BEGIN;|COMMIT;)",
    re.MULTILINE,
)
WRITTEN = "select sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint from pg_stat_user_tables"
NOTIFIED = "select count(*) from notifications where order_id = $1"


@dataclass
class Site:
    """A customer, and counters of what an order costs."""

    customer: Customer
    product: dict[str, Any]
    connection: asyncpg.Connection
    admin: AIOKafkaAdminClient
    consumer: AIOKafkaConsumer
    log: Path
    calls: Calls
    written_before: int
    """Rows, including the product's."""
    bought: int = 0

    async def buys(self) -> None:
        """Buy once, and wait until the customer is notified."""
        order = await self.customer.placed(self.product, key=str(uuid4()))
        await self.customer.paid(order)

        async def told() -> int:
            return int(await self.connection.fetchval(NOTIFIED, order["id"]))

        await eventually(told, bool)
        self.bought += 1

    async def messages(self) -> int:
        """Return the number of messages in all topics, including changelogs."""
        names = [name for name in await self.admin.list_topics() if not name.startswith("__")]
        tps = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await self.admin.describe_topics(names)
            for partition in topic["partitions"]
        ]
        return sum((await self.consumer.end_offsets(tps)).values())

    async def rows(self) -> int:
        """Return the number of rows written so far, by the server's statistics."""
        return int(await self.connection.fetchval(WRITTEN))

    async def idle_calls_a_second(self) -> float:
        """Return the calls per second for timers and fetches without any order."""
        before, begun = self.calls.so_far(), monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        return (self.calls.so_far() - before) / (monotonic() - begun)

    def statements(self) -> int:
        """Return the number of statements in the server's log so far."""
        return len(STATEMENT.findall(self.log.read_text(errors="replace")))


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers for these tests alone."""
    with Stack(tmp_path_factory.mktemp("work")) as stack:
        yield stack


@pytest.fixture(scope="module")
async def site(own_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """An observed worker, warmed up and idle."""
    folder = tmp_path_factory.mktemp("watched")
    environment = {**own_stack.environment, "JWT_SECRET": SECRET, "PORT": str(free_port())}
    furnish(environment, catalogue=False)
    connection = await asyncpg.connect(own_stack.postgres.url)
    for name, value in {"log_statement": "all", "log_line_prefix": "<%a> "}.items():
        await connection.execute(f"alter system set {name} = '{value}'")
    await connection.execute("select pg_reload_conf()")
    written = int(await connection.fetchval(WRITTEN)) + 1
    calls = Calls(folder / "calls")
    environment |= calls.environment
    brokers = own_stack.broker.brokers
    kafka = AIOKafkaAdminClient(bootstrap_servers=brokers)
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers)
    await kafka.start()
    async with consumer, aiohttp.ClientSession() as session:
        with Worker(environment, folder / "data", folder / "worker.log") as worker:
            worker.wait_ready()
            api = Api(session, worker.url)
            admin = Admin(api, token(role="ADMIN"), str(uuid4()), "admin@example.com")
            customer = Customer(api, token(), str(uuid4()), None)
            product = await admin.adds(quantity=1000)
            log = own_stack.postgres.log
            site = Site(customer, product, connection, kafka, consumer, log, calls, written)
            for _ in range(5):
                await site.buys()
            yield site
    await kafka.close()
    await connection.close()


async def test_an_order_asks_postgresql_so_often(site: Site) -> None:
    before = site.statements()
    for _ in range(ORDERS):
        await site.buys()
    assert site.statements() - before == ORDERS * STATEMENTS


async def test_an_order_sends_so_many_messages(site: Site) -> None:
    await site.buys()
    expected = site.bought * MESSAGES
    assert await eventually(site.messages, lambda count: count >= expected) == expected


async def test_an_order_writes_so_many_rows(site: Site) -> None:
    await site.buys()
    expected = site.written_before + site.bought * ROWS
    assert await eventually(site.rows, lambda count: count >= expected) == expected


async def test_an_order_calls_no_more_functions(site: Site) -> None:
    idle = await site.idle_calls_a_second()
    before, begun = site.calls.so_far(), monotonic()
    for _ in range(ORDERS):
        await site.buys()
    took = monotonic() - begun
    assert site.calls.so_far() - before - idle * took <= ORDERS * CALLS
