"""`python -m bench.bare`: a closed loop of lifecycles on bare asyncpg and bare aiokafka.

Reads one plan (JSON) from standard input and writes one object of figures to standard output.
"""

import asyncio
import gc
import json
import logging
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.bare.agents import Agent, Agents
from bench.bare.events import clock
from bench.bare.hops import Hops
from bench.bare.relay import Relay
from bench.bare.shapes import CURRENCY, Message
from bench.bare.statements import Statements
from bench.costs import costs, spent
from bench.customers import LINES
from bench.plan import Plan
from bench.site import PIECES, PRODUCTS
from bench.spread import latencies, rates

POOL = 12
"""Connections for requests, and as many for agents; as in the worker."""
MOST = 100
"""Requests per transaction at most; as in the worker."""
FEW_ROWS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Planner settings of all connections; as in the worker."""
PLAN_SECONDS = 10
"""How long a connection keeps a statement's plan; as in the worker."""
MAX_BATCH = 64 * 1024
"""Bytes of one producer batch for one partition; as in the worker."""
RAMP_SECONDS = 2.0


class Batcher:
    """Requests that arrive while others are in progress share the next transaction."""

    def __init__(self, pool: asyncpg.Pool, hop: Any) -> None:
        self._pool, self._hop = pool, hop
        self._waiting: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()

    async def ask(self, wanted: Any) -> Any:
        """Add a request to the next transaction; return its result."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((wanted, future))
        return await future

    async def run(self) -> None:
        """Execute requests until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty() and len(batch) < MOST:
                batch.append(self._waiting.get_nowait())
            async with self._pool.acquire() as connection:
                done = await self._hop(connection, [wanted for wanted, _ in batch])
            for (_, future), one in zip(batch, done or [None] * len(batch), strict=True):
                future.set_result(one)


@dataclass
class Bare:
    """All connected parts."""

    plan: Plan
    products: list[UUID]
    placings: Batcher
    payings: Batcher
    relay: Relay
    told: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    finished: list[tuple[float, float]] = field(default_factory=list)
    """When each order was paid and its customer notified (`time.monotonic`)."""

    async def buy_on(self, number: int, over: asyncio.Event) -> None:
        """Buy one order after another until `over` is set."""
        dice = random.Random(number)
        await asyncio.sleep(RAMP_SECONDS * number / self.plan.size)
        while not over.is_set():
            chosen = dice.sample(self.products, dice.choice(LINES))
            await self._buy({id: dice.randint(1, 2) for id in chosen})

    async def _buy(self, lines: dict[UUID, int]) -> None:
        order_id = await self.placings.ask((uuid4(), lines))
        paid = monotonic()
        told = self.told[str(order_id)] = asyncio.get_running_loop().create_future()
        await self.payings.ask(order_id)
        await told
        self.finished.append((paid, monotonic()))

    def after_commit(self, agent: Agent, messages: list[Message]) -> None:
        """Wake the customers who were notified."""
        if agent.topic == "order.completed":
            for message in messages:
                self.told.pop(message["orderId"]).set_result(None)


async def carry_out(plan: Plan) -> dict[str, Any]:
    """Return the figures of the closed loop."""
    async with AsyncExitStack() as stack:
        bare = await _connected(plan, stack)
        over, programs = asyncio.Event(), {**plan.programs, "worker": [os.getpid()]}
        tasks = [asyncio.create_task(bare.buy_on(n, over)) for n in range(int(plan.size))]
        await asyncio.sleep(plan.warm_up)
        before, begin = costs(programs), monotonic()
        await asyncio.sleep(plan.seconds)
        end, after = monotonic(), costs(programs)
        over.set()
        await asyncio.gather(*tasks)
        await bare.relay.mark()
        inside = [(paid, told) for paid, told in bare.finished if begin <= told < end]
        return {
            "notified": rates([told for _, told in inside], begin, end - begin),
            "latencyMs": {"payToNotified": latencies([told - paid for paid, told in inside])},
            "costs": spent(before, after, len(inside)),
            "unfinished": len(bare.told),
        }


async def _connected(plan: Plan, stack: AsyncExitStack) -> Bare:
    statements = Statements()
    requests, agents = [await stack.enter_async_context(_pool(plan)) for _ in range(2)]
    events, changelogs = [
        AIOKafkaProducer(bootstrap_servers=plan.brokers, acks="all", max_batch_size=MAX_BATCH)
        for _ in range(2)
    ]
    for producer in (events, changelogs):
        await stack.enter_async_context(producer)
    connection = await asyncpg.connect(
        plan.database,
        max_cached_statement_lifetime=PLAN_SECONDS,
        server_settings={"synchronous_commit": "off", **FEW_ROWS},
    )
    stack.push_async_callback(connection.close)
    products = await _catalogue(statements, plan.database)
    relay = Relay(statements, connection, events)
    hops = Hops(statements, relay.carry)
    placings, payings = [Batcher(requests, hop) for hop in (hops.place, hops.pay)]
    bare = Bare(plan, products, placings, payings, relay)
    handlers = [
        Agent("order.created", "replays.remember", None),
        Agent("order.payment_requested", "payments.capture", hops.capture),
        Agent("payment.succeeded", "orders.mark_paid", hops.mark_paid),
        Agent("order.paid", "stock.reserve", hops.reserve),
        Agent("inventory.reserved", "orders.complete", hops.complete),
        Agent("order.completed", "notify.tell_completed", hops.tell),
    ]
    consumer = await stack.enter_async_context(_consumer(plan, [one.topic for one in handlers]))
    workers = Agents(agents, consumer, changelogs, handlers, bare.after_commit)
    for work in (relay.run(), workers.run(), placings.run(), payings.run()):
        task = asyncio.create_task(work)
        task.add_done_callback(partial(_end, asyncio.current_task()))
        stack.callback(task.cancel)
    return bare


def _end(everything: "asyncio.Task[Any] | None", work: "asyncio.Task[None]") -> None:
    """Cancel everything if one part ends, since nothing would ever finish without it."""
    if not work.cancelled():
        logging.error("a part of the bare system has ended", exc_info=work.exception())
        assert everything is not None
        everything.cancel()


def _pool(plan: Plan) -> asyncpg.Pool:
    async def nothing_to_reset(connection: asyncpg.Connection) -> None:
        """Skip the reset, as the worker does."""

    return asyncpg.create_pool(
        plan.database,
        min_size=0,
        max_size=POOL,
        reset=nothing_to_reset,
        max_cached_statement_lifetime=PLAN_SECONDS,
        server_settings={"lock_timeout": "2s", **FEW_ROWS},
    )


@asynccontextmanager
async def _consumer(plan: Plan, topics: list[str]) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=plan.brokers,
        group_id="limit",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(t, n) for t in topics for n in range(plan.partitions)])
        await consumer.seek_to_end()
        yield consumer
    finally:
        await consumer.stop()


async def _catalogue(statements: Statements, database: str) -> list[UUID]:
    """Return the products, which the first run on a database adds."""
    connection = await asyncpg.connect(database)
    if not await connection.fetchval("select count(*) from products"):
        for number in range(PRODUCTS):
            price = {"price_minor": 1000 + 100 * number, "currency": CURRENCY}
            nothing = {"description": None, "category": None}
            what = {"id": uuid4(), "name": f"Product {number}", "quantity": PIECES, "now": clock()}
            await statements.fetch(connection, "insert_product", **what, **price, **nothing)
    ids = [row["id"] for row in await connection.fetch("select id from products")]
    await connection.close()
    return ids


def main() -> None:
    """Run the plan; objects made before are excluded from garbage collection."""
    plan = Plan(**json.load(sys.stdin))
    gc.freeze()
    json.dump(uvloop.run(carry_out(plan)), sys.stdout)


if __name__ == "__main__":
    main()
