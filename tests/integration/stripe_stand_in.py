"""The stand-in for Stripe, its control API, and a receiver of its webhooks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.money.ledger import Money, money_of
from app.stripe.api import Checkout, Line
from app.stripe.client import StripeClient
from app.stripe.webhook import Report, read, verify
from app.times import now
from devstack.stripe import Stripe

SECRET = "whsec_for_tests"


def checkout(order_id: UUID | None = None, attempt_id: UUID | None = None) -> Checkout:
    """Return a checkout of two lines, 2 × 99.99 and 1.00, to be paid within 31 minutes."""
    return Checkout(
        attempt_id or uuid4(),
        order_id or uuid4(),
        [Line("Zażółć <gęślą>", 2, 9999), Line("Ink", 1, 100)],
        "PLN",
        now() + timedelta(minutes=31),
        "http://shop.example/paid",
        "http://shop.example/left",
    )


def stripe_client(url: str, key: str = "sk_test_stand_in", patience: float = 10.0) -> StripeClient:
    """Return the client of a Stripe at `url`."""
    return StripeClient(key, url, "http://shop.example/paid", "http://shop.example/left", patience)


@dataclass
class Receiver:
    """Verifies and reads webhooks as the service does, after answering `statuses` in turn."""

    reports: list[Report] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    server: TestServer = field(init=False)

    async def start(self) -> str:
        """Start to listen; return the URL for webhooks."""
        app = web.Application()
        app.router.add_post("/api/stripe/webhook", self._take)
        self.server = TestServer(app)
        await self.server.start_server()
        return str(self.server.make_url("/api/stripe/webhook"))

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        verify(body, request.headers.get("Stripe-Signature"), [SECRET], now())
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        self.reports.append(read(body))
        return web.Response()

    def money(self) -> Money:
        """Return the money that all reports together add up to."""
        return money_of([report.fact for report in self.reports if report.fact])

    def types(self) -> list[str]:
        return [report.type for report in self.reports]


class StandIn:
    """The stand-in as a customer and the owner of its control API see it."""

    def __init__(self, stripe: Stripe, client: aiohttp.ClientSession) -> None:
        self._stripe = stripe
        self._client = client

    async def press(self, session_id: str, button: str) -> str:
        """Press a button of the checkout page; return where it leads, or a refusal's status."""
        url = f"{self._stripe.url}/c/pay/{session_id}/{button}"
        async with self._client.post(url, allow_redirects=False) as answer:
            return answer.headers.get("Location", str(answer.status))

    async def control(self, path: str, /, **told: Any) -> Any:
        """POST to the control API."""
        async with self._client.post(f"{self._stripe.url}/_control/{path}", json=told) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def look(self) -> Any:
        """Return the stand-in's state."""
        async with self._client.get(f"{self._stripe.url}/_control") as answer:
            return await answer.json()

    async def deliver(self, events: Sequence[str] = (), *, backwards: bool = False) -> list[int]:
        """Deliver all held events, or the given ones; return the statuses of the answers."""
        told = {"events": list(events), "reversed": backwards}
        return list((await self.control("deliver", **told))["answers"])
