"""One order from its customer's view: place, pay, wait for the end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any
from uuid import uuid4

from bench.client import Client, GaveUp, Json, Unexpected


@dataclass
class Order:
    """The plan of one order, and its outcome."""

    items: list[Json]
    pays_wrong: bool
    sends_twice: bool
    status: str = "UNANSWERED"
    """The order's status; UNANSWERED or REFUSED if none was created."""
    id: str = ""
    reason: str | None = None
    """The problem's detail if REFUSED, else the cancelReason."""
    latency_ms: float | None = None
    """From the answer to pay to COMPLETED, by the server's clock."""
    is_replayed: bool = False
    warms_up: bool = False
    """One of the first orders, which meet cold caches and compilers; excluded from the latency."""
    wrong: str | None = None
    """An answer that the service should not give."""


@dataclass
class Shopper:
    """Takes one order through, until it has ended or the deadline has passed."""

    client: Client
    token: str
    deadline: float

    async def shop(self, order: Order, placed: Callable[[], None]) -> None:
        """Carry the order through; call `placed` once its creation is answered."""
        try:
            total = await self._place(order)
            placed()
            if order.status != "REFUSED":
                await self._follow(order, await self._pay(order, total + order.pays_wrong))
        except Unexpected as answer:
            order.wrong = str(answer)
        except GaveUp:
            pass  # keep the last known status

    async def _place(self, order: Order) -> Any:
        request = {"headers": self._once(), "json": {"items": order.items}}
        status, made = await self.client.ask("POST", "/api/orders", self.deadline, **request)
        if status == 409:
            order.status, order.reason = "REFUSED", made["detail"]
            return None
        if status not in (200, 201):
            raise Unexpected(f"POST /api/orders answered {status}: {made.get('detail')}")
        order.status, order.id = made["status"], made["id"]
        if order.sends_twice:
            again = await self.client.expect("POST", "/api/orders", self.deadline, **request)
            if (again["id"], again["isDuplicate"]) != (order.id, True):
                raise Unexpected(f"POST /api/orders, the same again, answered {again}")
            order.is_replayed = True
        return made["totalAmount"]

    async def _pay(self, order: Order, amount: Any) -> datetime:
        request = {"headers": self._once(), "params": {"amount": str(amount)}}
        path = f"/api/orders/{order.id}/pay"
        paid = await self.client.expect("PATCH", path, self.deadline, **request)
        return datetime.fromisoformat(paid["updatedAt"])

    async def _follow(self, order: Order, paid_at: datetime) -> None:
        path, headers = f"/api/orders/{order.id}", self._bearer()
        self.client.watched += 1
        wait = 0.2
        try:
            while order.status not in ("COMPLETED", "CANCELLED"):
                await asyncio.sleep(max(0.05, min(wait, (self.deadline - monotonic()) / 2)))
                seen = await self.client.expect("GET", path, self.deadline, headers=headers)
                order.status, order.reason = seen["status"], seen["cancelReason"]
                # A hundred reads a second in all, so that polling does not lengthen a backlog.
                wait = max(0.1, self.client.watched / 100)
        finally:
            self.client.watched -= 1
        if order.status == "COMPLETED":
            took = datetime.fromisoformat(seen["updatedAt"]) - paid_at
            order.latency_ms = took / timedelta(milliseconds=1)

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _once(self) -> dict[str, str]:
        return {**self._bearer(), "Idempotency-Key": str(uuid4())}
