"""Customers' visits: order, pay, and the wait for the end, with a clock beside each step."""

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
    """What was meant to happen and when it did, in seconds of `time.monotonic`."""

    customer: Customer
    place_due: float
    pay_due: float = 0.0
    """When paying was meant to begin: from there its latency counts, late or not."""
    sent: float = 0.0
    order_id: bytes = b""
    placed: float = 0.0
    paid: float = 0.0
    completed: float = 0.0


class Shop:
    """What all visits share, and what was answered instead of success."""

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
        """By what came instead of a success: a status or an error."""

    def visit(self, place_due: float) -> Visit:
        """The next customer comes in."""
        customer = self._customers[len(self.visits) % len(self._customers)]
        visit = Visit(customer, place_due)
        self.visits.append(visit)
        return visit

    async def place(self, visit: Visit) -> bool:
        """Order; whether it was accepted."""
        visit.sent = monotonic()
        basket = self._dice.choice(self._baskets)
        body = await self._ask(visit.customer.place(basket), 201)
        if body is None:
            return False
        visit.placed = monotonic()
        visit.order_id = _id(body)
        return True

    async def pay(self, visit: Visit) -> bool:
        """Pay the exact total; whether it was accepted. Then `complete` has something to await."""
        self._endings.expect(visit.order_id)
        if await self._ask(visit.customer.pay(visit.order_id), 200) is None:
            self._endings.forget(visit.order_id)
            return False
        visit.paid = monotonic()
        return True

    async def complete(self, visit: Visit) -> None:
        """Wait for the order's COMPLETED."""
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
    """The id of an order, which stands first in it."""
    at = order.index(b'"id":"') + 6
    UUID(order[at : at + 36].decode())
    return order[at : at + 36]
