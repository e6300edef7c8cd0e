"""The stand-in for Stripe from the view of one order, and the provider calls of the worker."""

import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import asyncpg

from devstack.stripe.webhooks import signature
from tests.acceptance.client import eventually
from tests.integration.stripe_stand_in import StandIn

Json = dict[str, Any]


def session_event(order: Json, **changes: Any) -> Json:
    """Return the event of a paid session of 998.00 that was created outside the service."""
    session = {
        "object": "checkout.session",
        "id": f"cs_{uuid4().hex}",
        "payment_intent": f"pi_{uuid4().hex}",
        "client_reference_id": order["id"],
        "metadata": {},
        "payment_status": "paid",
        "amount_total": 99800,
        "currency": "pln",
    }
    return {
        "id": f"evt_{uuid4().hex}",
        "type": "checkout.session.completed",
        "created": int(time.time()),
        "data": {"object": session | changes},
    }


def as_bytes(event: Json) -> bytes:
    """Return the event as a request body."""
    return json.dumps(event).encode()


def signed(body: bytes, secret: str, moment: int | None = None) -> str:
    """Return the Stripe-Signature header for `moment`, by default the current time."""
    return signature(body, [secret], int(time.time()) if moment is None else moment)


class StripeStandIn:
    """The stand-in's objects by order, and what customers do on its page."""

    def __init__(self, stand_in: StandIn, connection: asyncpg.Connection) -> None:
        self._stand_in = stand_in
        self._connection = connection

    async def press(self, checkout: Json, button: str = "pay") -> str:
        """Press a button of the checkout page; return where it leads, or a refusal's status."""
        return await self._stand_in.press(checkout["checkoutUrl"].rsplit("/", 1)[1], button)

    async def fault(self, kind: str, path: str = "/v1/", **more: Any) -> None:
        """Make calls to that path fail; see `devstack.stripe.faults`."""
        await self._stand_in.control("faults", kind=kind, path=path, **more)

    async def whims(self, **told: Any) -> None:
        """Set how payments and refunds go from now on."""
        await self._stand_in.control("whims", **told)

    async def hold(self, hold: bool = True, copies: int = 1) -> None:
        """Hold webhooks until `deliver`, and send each `copies` times."""
        await self._stand_in.control("webhooks", hold=hold, copies=copies)

    async def deliver(self, events: Sequence[str] = (), **how: Any) -> list[int]:
        """Deliver held webhooks; return the statuses of the answers."""
        return await self._stand_in.deliver(events, **how)

    async def refund_by_hand(self, order: Json, amount: int) -> None:
        """Refund as a person does in Stripe's dashboard."""
        (charge,) = (await self.of(order))["charges"]
        await self._stand_in.control(
            "refunds", payment_intent=charge["payment_intent"], amount=amount
        )

    async def settle(self, order: Json, *, paid: bool) -> None:
        """Let a delayed payment succeed or fail."""
        (session,) = (await self.of(order))["sessions"]
        await self._stand_in.control(f"sessions/{session['id']}/settle", paid=paid)

    async def of(self, order: Json) -> Json:
        """Return the order's sessions, charges and refunds, and the events of all orders."""
        told = await self._stand_in.look()
        sessions = [s for s in told["sessions"] if s["client_reference_id"] == order["id"]]
        intents = {session["payment_intent"] for session in sessions} - {None}

        def ours(kind: str) -> list[Json]:
            return [one for one in told[kind] if one["payment_intent"] in intents]

        return {
            "sessions": sessions,
            "charges": ours("charges"),
            "refunds": ours("refunds"),
            "events": told["events"],
        }

    async def counts(self, order: Json) -> tuple[int, int, int]:
        """Return the numbers of the order's sessions, charges and refunds."""
        told = await self.of(order)
        return len(told["sessions"]), len(told["charges"]), len(told["refunds"])

    async def come_to_rest(self) -> None:
        """Wait until no call is pending, except those with no attempt that are due in over 5 s."""
        query = (
            "select count(*) from provider_calls where done_at is null"
            " and (attempts > 0 or due_at < now() + interval '5 s')"
        )
        await eventually(lambda: self._connection.fetchval(query), lambda left: left == 0)

    async def hurry(self) -> None:
        """Make every call that waits for a retry due."""
        await self._connection.execute(
            "update provider_calls set due_at = now() where done_at is null"
        )

    async def make_due(self, order: Json) -> None:
        """Let the order's payment deadline pass."""
        await self._connection.execute(
            "update order_deadlines set due_at = now() where order_id = $1", order["id"]
        )

    async def row(self, query: str, *arguments: Any) -> Any:
        """Return one row of PostgreSQL."""
        return await self._connection.fetchrow(query, *arguments)
