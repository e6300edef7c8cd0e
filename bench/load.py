"""`python -m bench.load`: the load generator, a separate process.

Reads one plan (JSON) from standard input and writes one object of figures to standard output.
"""

import gc
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from bench.customers import Customer, baskets
from bench.endings import watching
from bench.figures import Json, creations, lifecycles
from bench.loops import closed, paced
from bench.plan import Plan
from bench.reads import reads
from bench.visits import Shop
from bench.window import measure, notified
from bench.wire import Wire

CONNECTIONS = 256
CUSTOMERS = 200


async def carry_out(plan: Plan) -> Json:
    """Return the figures of the plan's scenario."""
    return await SCENARIOS[plan.scenario](plan)


async def _create(plan: Plan) -> Json:
    async with _shop(plan) as shop:
        drive = closed(int(plan.size), pays=False)
        window = await measure(shop, drive, plan.warm_up, plan.seconds, plan.programs)
        return creations(shop, window)


async def _lifecycle(plan: Plan) -> Json:
    return await _lifecycles(plan, closed(int(plan.size)))


async def _paced(plan: Plan) -> Json:
    return {"rate": plan.size} | await _lifecycles(plan, paced(plan.size))


async def _lifecycles(plan: Plan, drive: Any) -> Json:
    async with _shop(plan) as shop:
        window = await measure(shop, drive, plan.warm_up, plan.seconds, plan.programs)
        return lifecycles(shop, window, await notified(plan.database, shop, window))


SCENARIOS = {"create": _create, "lifecycle": _lifecycle, "paced": _paced, "reads": reads}


@asynccontextmanager
async def _shop(plan: Plan) -> AsyncIterator[Shop]:
    wire = Wire(plan.urls, CONNECTIONS)
    await wire.open()
    customers = [Customer(plan.secret) for _ in range(CUSTOMERS)]
    try:
        async with watching(plan.brokers, plan.partitions) as endings:
            yield Shop(wire, endings, customers, baskets(plan.products, random.Random(1)))
    finally:
        wire.close()


def main() -> None:
    """Run the plan; garbage collection is rare, since most objects live until the end."""
    plan = Plan(**json.load(sys.stdin))
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    figures = uvloop.run(carry_out(plan))
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
