"""Customers at a fixed rate: each places an order, pays it, and follows it to its end.

They retry a request, with the same Idempotency-Key, until it is answered.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from time import monotonic
from typing import Any
from uuid import uuid4

import aiohttp

from tests.chaos.deployment import Deployment
from tests.chaos.waiting import until

SCARCE, PIECES = "Last umbrella", 3
"""A product of which more is ordered than there is, and its stock."""
PLENTIFUL = ["Envelope", "Notebook", "Postcard"]
"""Products in ample stock; only a few, so that orders contend for the same rows."""
ENDED = frozenset({"COMPLETED", "CANCELLED"})
PATIENCE_SECONDS = 100.0

Json = dict[str, Any]


class Client:
    """An HTTP client that tries one worker after the other until one answers."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Callable[[], list[str]],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.troubles: list[str] = []
        """Why requests were retried."""
        self._session = session
        self._urls = urls
        self._turn = count()
        self._deadline = monotonic() + patience_seconds

    @property
    def patient(self) -> bool:
        """Whether there is still time for an answer."""
        return monotonic() < self._deadline

    async def ask(
        self, method: str, path: str, token: str = "", key: str = "", **content: Any
    ) -> tuple[int, Json]:
        """Return the status and body of the answer. Fails the test if none comes in time."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Idempotency-Key": key} if key else {}
        while self.patient:
            try:
                answer = await self._attempt(method, path, headers, content)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                answer = repr(error)
            if not isinstance(answer, str):
                return answer
            self.troubles.append(f"{method} {path}: {answer}")
            await asyncio.sleep(0.2)
        raise AssertionError(f"never answered: {self.troubles[-3:]}")

    async def expect(self, statuses: set[int], method: str, path: str, **content: Any) -> Json:
        """Return the body of an answer with one of these statuses. Fails the test for any other."""
        status, body = await self.ask(method, path, **content)
        assert status in statuses, f"{method} {path} answered {status}: {body}"
        return body

    async def _attempt(self, method: str, path: str, headers: Json, content: Json) -> Any:
        urls = self._urls()
        url = urls[next(self._turn) % len(urls)] + path
        async with self._session.request(method, url, headers=headers, **content) as response:
            text = await response.text()
        if response.status == 503 or "Retry-After" in response.headers:
            return f"{response.status} {text}"
        return response.status, json.loads(text, parse_float=Decimal)


class Load:
    """Orders of every kind, and what their customers were told."""

    def __init__(self, client: Client, orders: int, rate: float) -> None:
        self.client = client
        self.ends: dict[str, str | None] = {}
        """By promised order: the final status its customer saw, or None."""
        self._expected: dict[str, set[str]] = {}
        self._count = orders
        self._rate = rate
        self.longest_wait = 1.0
        """The longest pause in seconds between two polls of an order."""
        self.token = ""
        """The customer's token; `open` sets it."""
        self.products: dict[str, str] = {}
        """Product ids by name."""
        self._requests: dict[str, Json] = {}
        self._unpaid: list[Json] = []
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Log in, read the catalogue, and place unpaid orders for the scarce product."""
        account = {"email": f"{secrets.token_hex(6)}@example.com", "password": "of a customer"}
        await self.client.expect({200}, "POST", "/api/auth/register", json=account)
        login = await self.client.expect({200}, "POST", "/api/auth/login", json=account)
        self.token = login["token"]
        page = await self.client.expect({200}, "GET", "/api/products?limit=100", token=self.token)
        self.products = {product["productName"]: product["id"] for product in page["data"]}
        self._unpaid = [await self.place([SCARCE]) for _ in range(self._count // 10)]

    def start(self) -> None:
        """Start to let customers in."""
        self._running = asyncio.create_task(self._run())

    async def reaches(self, share: float) -> None:
        """Wait until that share of the orders has been placed."""
        await until(
            lambda: self._has_stopped() or len(self.ends) >= share * self._count,
            f"{share:.0%} of the orders are placed",
        )

    async def is_turned_away(self) -> None:
        """Wait until a request has to be retried."""
        await until(
            lambda: self._has_stopped() or self.client.troubles, "a customer has to ask again"
        )

    async def finish(self) -> None:
        """Wait for all customers, and fail the test if an order ended as it should not."""
        if self._running:
            await self._running
        wrong = {i: end for i, end in self.ends.items() if end and end not in self._expected[i]}
        assert not wrong, f"ended as they should not: {wrong}"

    def abort(self) -> None:
        """Stop all customers."""
        if self._running:
            self._running.cancel()

    async def place(self, products: list[str], key: str = "") -> Json:
        """Place an order for one piece of each product, with that Idempotency-Key or a new one."""
        order = await self.try_to_place(products, key)
        assert order, f"there is not enough of {products}"
        return order

    async def try_to_place(self, products: list[str], key: str = "") -> Json | None:
        """Place an order as `place` does; return None if there is not enough stock."""
        items = [{"productId": self.products[name], "quantity": 1} for name in products]
        request = {"token": self.token, "key": key or str(uuid4()), "json": {"items": items}}
        order = await self.client.expect({200, 201, 409}, "POST", "/api/orders", **request)
        if "id" not in order:
            return None
        self.ends[order["id"]] = None
        self._requests[order["id"]] = request
        return order

    async def place_again(self, order_id: str) -> None:
        """Repeat the request that placed the order; the answer must be the same order."""
        request = self._requests[order_id]
        again = await self.client.expect({200}, "POST", "/api/orders", **request)
        assert (again["id"], again["isDuplicate"]) == (order_id, True)

    async def buy(self, products: list[str], surplus: int = 0) -> Json:
        """Place an order, pay `surplus` more than its total, and follow it to its end."""
        order = await self.place(products)
        await self.settle(order, {"CANCELLED"} if surplus else {"COMPLETED"}, surplus)
        return order

    async def settle(self, order: Json, ends: set[str], surplus: int = 0) -> None:
        """Pay a placed order and follow it to its end, which must be one of `ends`."""
        self._expected[order["id"]] = ends
        await self.pay(order, surplus)
        await self.follow(order)

    async def pay(self, order: Json, surplus: int = 0, key: str = "") -> bool:
        """Ask to pay `surplus` more than the total; return False if the order has ended (409)."""
        request = {"token": self.token, "key": key or str(uuid4())}
        amount = {"amount": str(order["totalAmount"] + surplus)}
        path = f"/api/orders/{order['id']}/pay"
        return await self._is_taken("PATCH", path, params=amount, **request)

    async def cancel(self, order: Json) -> bool:
        """Ask to cancel the order; return False if it has ended (409)."""
        request = {"token": self.token, "key": str(uuid4())}
        path = f"/api/orders/{order['id']}/cancel"
        return await self._is_taken("POST", path, json={}, **request)

    async def _is_taken(self, method: str, path: str, **content: Any) -> bool:
        """Return whether the answer is 200 and not 409.

        It holds for earlier tries of the same request as well: one that was committed is answered
        200 again, by its key, whatever has become of the order.
        """
        status, body = await self.client.ask(method, path, **content)
        assert status in {200, 409}, f"{method} {path} answered {status}: {body}"
        return status == 200

    async def check_out(self, order: Json) -> str | None:
        """Ask for a checkout at Stripe; return its URL when it is ready, or None."""
        path = f"/api/orders/{order['id']}/payments/stripe"
        await self.client.expect({202, 409}, "POST", path, token=self.token, key=str(uuid4()))
        while self.client.patient:
            seen = await self.client.expect({200}, "GET", path, token=self.token)
            if seen["status"] != "REQUESTED":
                return str(seen["checkoutUrl"]) if seen["status"] == "READY" else None
            await asyncio.sleep(0.2)
        return None

    async def follow(self, order: Json) -> Json:
        """Poll the order until it has ended; return its last state."""
        wait, path, seen = 0.1, f"/api/orders/{order['id']}", order
        while self.ends[order["id"]] is None and self.client.patient:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, self.longest_wait)
            seen = await self.client.expect({200}, "GET", path, token=self.token)
            if seen["status"] in ENDED:
                self.ends[order["id"]] = seen["status"]
        return seen

    def unended(self) -> list[str]:
        """Return the orders whose end no customer has seen."""
        return [id for id, end in self.ends.items() if end is None]

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as customers:
            for n in range(self._count):
                customers.create_task(self._serve(n))
                await asyncio.sleep(1 / self._rate)

    async def _serve(self, n: int) -> None:
        if n % 10 == 3 and self._unpaid:
            await self.settle(self._unpaid.pop(), set(ENDED))
            return
        order = await self.buy(PLENTIFUL, surplus=int(n % 10 == 7))
        if n % 10 == 5:
            await self.place_again(order["id"])

    def _has_stopped(self) -> bool:
        return self._running is not None and self._running.done()


@asynccontextmanager
async def customers(
    deployment: Deployment, orders: int = 200, rate: float = 80
) -> AsyncIterator[Load]:
    """Let customers in; on exit, wait until each has seen the end of its order."""
    async with at_the_counter(deployment, orders, rate) as load:
        load.start()
        try:
            yield load
            await load.finish()
        finally:
            load.abort()


@asynccontextmanager
async def at_the_counter(
    deployment: Deployment,
    orders: int = 0,
    rate: float = 1,
    patience_seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[Load]:
    """Provide a logged-in customer who does only what the test asks."""
    connector = aiohttp.TCPConnector(limit=200)
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        load = Load(Client(session, deployment.urls, patience_seconds), orders, rate)
        await load.open()
        yield load
