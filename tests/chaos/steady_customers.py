"""A steady flow of customers of every kind, until it is stopped."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.acceptance.tokens import token
from tests.chaos.load import ENDED, PLENTIFUL, SCARCE, Client, Json, Load
from tests.chaos.proxied_servers import Town
from tests.chaos.waiting import comes_true

PATIENCE_SECONDS = 86_400.0
WAIT_SECONDS = 120.0
"""How long an order may take to end once no more are placed."""
AT_ONCE = 150
"""The number of customers served at once; others wait, so an outage does not pile up thousands."""


class Crowd:
    """Customers of several kinds; each follows its order to the end."""

    def __init__(self, town: Town, load: Load, dice: random.Random, rate: float) -> None:
        self.load = load
        self.orders: Counter[str] = Counter()
        """How many orders were placed, by kind."""
        self._town = town
        self._dice = dice
        self._rate = rate
        self._room = asyncio.Semaphore(AT_ONCE)
        self._inside: set[asyncio.Task[None]] = set()
        self._troubles: list[str] = []
        self._door: asyncio.Task[None] | None = None
        self.kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "paid": (8, self._pay),
            "wrong amount": (2, self._pay_wrongly),
            "out of stock": (3, self._fight_for_the_last),
            "cancelled": (3, self._cancel),
            "stripe": (3, self._pay_at_stripe),
            "replayed": (2, self._repeat),
        }
        """The weight and the visit of each kind of customer."""

    async def open(self) -> None:
        """Start to let customers in."""
        await self._restock()
        self._door = asyncio.create_task(self._let_in())

    async def close(self) -> list[str]:
        """Let no more customers in and wait for those inside; return what went wrong with them."""
        if self._door:
            self._door.cancel()
        if not await comes_true(lambda: not self._inside, WAIT_SECONDS):
            waiting = f"{len(self._inside)} customers still wait: {self.load.unended()[:4]}"
            self._troubles.append(waiting)
        for task in self._inside:
            task.cancel()
        troubles, self._troubles = self._troubles, []
        return troubles

    async def burst(self, orders: int) -> None:
        """Let `orders` paying customers in at once, however many are served."""
        for _ in range(orders):
            self._enter("paid", self._pay())

    async def probe(self, orders: int) -> None:
        """Place and pay `orders` orders at once, and wait until all are completed."""
        self.orders["paid"] += orders
        await asyncio.gather(*(self._pay() for _ in range(orders)))

    async def _let_in(self) -> None:
        names = list(self.kinds)
        weights = [weight for weight, _ in self.kinds.values()]
        while True:
            async with self._room:
                (kind,) = self._dice.choices(names, weights)
                _, visit = self.kinds[kind]
                self._enter(kind, self._stay(visit))
            await asyncio.sleep(self._dice.expovariate(self._rate))

    def _enter(self, kind: str, visit: Coroutine[Any, Any, None]) -> None:
        self.orders[kind] += 1
        task = asyncio.create_task(visit)
        self._inside.add(task)
        task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._inside.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._troubles.append(repr(error))

    async def _stay(self, visit: Callable[[], Awaitable[None]]) -> None:
        async with self._room:
            await visit()

    async def _pay(self) -> None:
        await self._end(await self.load.place(PLENTIFUL), "COMPLETED")

    async def _pay_wrongly(self) -> None:
        order = await self.load.place(PLENTIFUL)
        await self.load.pay(order, surplus=1)
        await self._see_the_end(order, "CANCELLED")

    async def _repeat(self) -> None:
        order = await self.load.place(PLENTIFUL)
        await asyncio.gather(*(self.load.place_again(order["id"]) for _ in range(2)))
        await self._end(order, "COMPLETED")
        await self.load.place_again(order["id"])

    async def _fight_for_the_last(self) -> None:
        """Order the scarce product, of which there is too little; restock it now and then."""
        if self._dice.random() < 0.3:
            await self._restock()
        order = await self.load.try_to_place([SCARCE])
        if order:
            await self._end(order, *ENDED)

    async def _cancel(self) -> None:
        order, is_paid = await self.load.place(PLENTIFUL), False
        if self._dice.random() < 0.7:
            is_paid = await self.load.pay(order)
            await asyncio.sleep(self._dice.uniform(0, 0.3))
        await self._end_by_cancelling(order, is_paid)

    async def _pay_at_stripe(self) -> None:
        order = await self.load.place(PLENTIFUL)
        url = await self.load.check_out(order)
        if url and self._dice.random() < 0.8:
            await self._see_the_outcome(order, await self._press(url, "pay"), "COMPLETED")
        else:
            await self._end_by_cancelling(order, is_paid=False)

    async def _press(self, url: str, button: str) -> bool:
        """Press a button on Stripe's page, past the proxy between the worker and Stripe.

        Return False if the page is closed, as that of an expired order is.
        """
        path = url.partition("/c/pay/")[2]
        async with aiohttp.ClientSession() as browser:
            address = f"{self._town.stripe.url}/c/pay/{path}/{button}"
            async with browser.post(address, allow_redirects=False) as answer:
                assert answer.status < 500, await answer.text()
                return answer.status < 400

    async def _end(self, order: Json, *ends: str) -> None:
        await self._see_the_outcome(order, await self.load.pay(order), *ends)

    async def _end_by_cancelling(self, order: Json, is_paid: bool) -> None:
        if await self.load.cancel(order):
            await self._see_the_end(order, "CANCELLED", may_expire=False)
        else:
            await self._see_the_outcome(order, is_paid, "COMPLETED")

    async def _see_the_outcome(self, order: Json, is_paid: bool, *ends: str) -> None:
        """Follow the order to one of `ends` if its payment was taken, else to its expiry."""
        if is_paid:
            await self._see_the_end(order, *ends, may_expire=False)
        else:
            await self._see_the_end(order)

    async def _see_the_end(self, order: Json, *ends: str, may_expire: bool = True) -> None:
        """Follow the order to one of `ends`, or to its expiry, which a fault brings about early."""
        seen = await self.load.follow(order)
        has_expired = seen["cancelReason"] == "expired"
        assert may_expire if has_expired else seen["status"] in ends, seen

    async def _restock(self) -> None:
        admin: dict[str, Any] = {"token": token(role="ADMIN"), "json": {"addQuantity": 2}}
        path = f"/api/products/{self.load.products[SCARCE]}"
        await self.load.client.expect({200}, "PATCH", path, **admin)


@asynccontextmanager
async def crowd(town: Town, dice: random.Random, rate: float) -> AsyncIterator[Crowd]:
    """Prepare customers who order nothing yet."""
    connector = aiohttp.TCPConnector(limit=400)
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        load = Load(Client(session, town.deployment.urls, PATIENCE_SECONDS), 0, rate)
        await load.open()
        yield Crowd(town, load, dice, rate)
