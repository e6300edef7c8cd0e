"""The two ways of offering load.

Closed: a number of customers, each with one order in flight from its creation to its end. It finds
the highest load that can be carried without a backlog, and never offers more. Open: customers
arrive at a rate, whatever became of those before them. Latencies count from the planned time, so
they include waiting.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic

from bench.visits import Shop

THINKING_SECONDS = 1.0
"""From the planned creation to the planned payment."""
PATIENCE_SECONDS = 60.0
"""How long after the last arrival an order may take before it counts as unfinished."""
REFUSED_SECONDS = 0.2
"""How long a refused customer of the closed loop waits."""
RAMP_SECONDS = 2.0

Drive = Callable[[Shop], AbstractAsyncContextManager[None]]
"""Offers load while its context lasts; its exit waits for what is in flight."""


def closed(customers: int, *, pays: bool = True) -> Drive:
    """Return the closed loop of `customers`; if not `pays`, they only place orders."""

    @asynccontextmanager
    async def drive(shop: Shop) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def buy_on(number: int) -> None:
            await asyncio.sleep(RAMP_SECONDS * number / customers)
            while not over.is_set():
                if not await _buy(shop, pays):
                    await asyncio.sleep(REFUSED_SECONDS)

        tasks = [asyncio.create_task(buy_on(number)) for number in range(customers)]
        yield
        over.set()
        await _finish(tasks)

    return drive


async def _buy(shop: Shop, pays: bool) -> bool:
    visit = shop.visit(monotonic())
    if not await shop.place(visit):
        return False
    if not pays:
        return True
    visit.pay_due = monotonic()
    if not await shop.pay(visit):
        return False
    await shop.complete(visit)
    return True


def paced(rate: float) -> Drive:
    """Return the open loop: independent arrivals (Poisson) at `rate` a second on average."""

    @asynccontextmanager
    async def drive(shop: Shop) -> AsyncIterator[None]:
        visiting: set[asyncio.Task[None]] = set()
        arriving = asyncio.create_task(_arrive(shop, rate, visiting))
        yield
        arriving.cancel()
        await _finish(list(visiting))

    return drive


async def _arrive(shop: Shop, rate: float, visiting: set[asyncio.Task[None]]) -> None:
    dice, due = random.Random(2), monotonic()
    while True:
        due += dice.expovariate(rate)
        if (wait := due - monotonic()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(_come_by(shop, due))
        visiting.add(task)
        task.add_done_callback(visiting.discard)


async def _come_by(shop: Shop, due: float) -> None:
    visit = shop.visit(due)
    visit.pay_due = due + THINKING_SECONDS
    if not await shop.place(visit):
        return
    if (wait := visit.pay_due - monotonic()) > 0:
        await asyncio.sleep(wait)
    if await shop.pay(visit):
        await shop.complete(visit)


async def _finish(tasks: list[asyncio.Task[None]]) -> None:
    if not tasks:
        return
    done, late = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
    for task in late:
        task.cancel()
    for task in done:
        task.result()
