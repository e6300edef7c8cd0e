"""Customers' visits: place an order, pay, wait for the end; each step is timed."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from bench.customers import Customer
from bench.endings import Endings
from bench.wire import Broken, Wire


@dataclass(slots=True)
class Visit:
    """The planned and actual times of one visit, in seconds of `time.monotonic`."""

    customer: Customer
    place_due: float
    pay_due: float = 0.0
    """The planned time of paying, from which its latency counts."""
    sent: float = 0.0
    order_id: bytes = b""
    placed: float = 0.0
    paid: float = 0.0
    completed: float = 0.0


class Shop:
    """The state that all visits share, and a count of failed requests."""

    def __init__(
        self, wire: Wire, endings: Endings, customers: Sequence[Customer], baskets: Sequence[bytes]
    ) -> None:
        self._wire = wire
        self._endings = endings
        self._customers = customers
        self._baskets = baskets
        self._dice = random.Random(1)
        self.visits: list[Visit] = []
        self.troubles: Counter[str] = Counter()
        """Failed requests by status or error."""

    def visit(self, place_due: float) -> Visit:
        """Begin the visit of the next customer."""
        customer = self._customers[len(self.visits) % len(self._customers)]
        visit = Visit(customer, place_due)
        self.visits.append(visit)
        return visit

    async def place(self, visit: Visit) -> bool:
        """Place an order; return whether it was accepted."""
        visit.sent = monotonic()
        basket = self._dice.choice(self._baskets)
        body = await self._ask(visit.customer.place(basket), 201)
        if body is None:
            return False
        visit.placed = monotonic()
        visit.order_id = _id(body)
        return True

    async def pay(self, visit: Visit) -> bool:
        """Pay the exact total; return whether that was accepted, so that `complete` may wait."""
        self._endings.expect(visit.order_id)
        if await self._ask(visit.customer.pay(visit.order_id), 200) is None:
            self._endings.forget(visit.order_id)
            return False
        visit.paid = monotonic()
        return True

    async def complete(self, visit: Visit) -> None:
        """Wait until the order is COMPLETED."""
        visit.completed = await self._endings.of(visit.order_id)

    async def _ask(self, request: bytes, success: int) -> bytes | None:
        try:
            status, body = await self._wire.ask(request)
        except (Broken, OSError) as error:
            self.troubles[repr(error)[:200]] += 1
            return None
        if status == success:
            return body
        self.troubles[str(status)] += 1
        return None


def _id(order: bytes) -> bytes:
    """Return the order's id, the first field of the answer."""
    at = order.index(b'"id":"') + 6
    UUID(order[at : at + 36].decode())
    return order[at : at + 36]
