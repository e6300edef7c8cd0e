"""Measure GET of an order by its id: first reads, and repeated ones."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import cycle
from time import monotonic
from uuid import UUID

import asyncpg

from bench.costs import costs, spent
from bench.customers import Customer
from bench.figures import Json
from bench.plan import Plan
from bench.spread import latencies, rates
from bench.wire import Wire

MOST = 30_000
RECENT = "select id, user_id from orders order by created_at desc limit $1"


async def reads(plan: Plan) -> Json:
    """Return the figures of reads that the cache cannot answer, and of those that it can.

    The former read each order once, as long as there are unread orders; the latter repeat those
    reads.
    """
    requests = await _requests(plan)
    wire = Wire(plan.urls, int(plan.size))
    await wire.open()
    try:
        missed = await _read(wire, iter(requests), plan)
        seen = requests[: missed["answers"]["count"]]
        hit = await _read(wire, cycle(seen), plan)
    finally:
        wire.close()
    return {"uncached": missed, "cached": hit}


async def _requests(plan: Plan) -> list[bytes]:
    connection = await asyncpg.connect(plan.database)
    rows: Sequence[tuple[UUID, UUID]] = await connection.fetch(RECENT, MOST)
    await connection.close()
    owners = {user: Customer(plan.secret, str(user)) for _, user in rows}
    requests = [owners[user].get(str(id).encode()) for id, user in rows]
    random.Random(3).shuffle(requests)
    return requests


async def _read(wire: Wire, requests: Iterator[bytes], plan: Plan) -> Json:
    answers: list[tuple[float, float]] = []
    troubles = 0
    before, begin = costs(plan.programs), monotonic()

    async def read_on() -> None:
        nonlocal troubles
        for request in requests:
            sent = monotonic()
            if sent >= begin + plan.seconds:
                return
            status, _ = await wire.ask(request)
            troubles += status != 200
            answers.append((monotonic(), monotonic() - sent))

    await asyncio.gather(*(read_on() for _ in range(int(plan.size))))
    took = monotonic() - begin
    return {
        "answers": rates([moment for moment, _ in answers], begin, took),
        "latencyMs": latencies([seconds for _, seconds in answers]),
        "troubles": troubles,
        "costs": spent(before, costs(plan.programs), len(answers)),
    }
