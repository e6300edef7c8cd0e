"""Calls that go wrong when a test says so."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from devstack.stripe.errors import ApiError
from devstack.stripe.objects import Object

Work = Callable[[web.Request, Object], Object]
"""What an endpoint does with a request and its parameters."""


@dataclass
class Fault:
    """How the next `calls` to addresses that start with `path` go.

    `error` and `limit` do nothing and answer 500 and 429. `stuck` does nothing, `broken` the work;
    both answer 500, again whenever the idempotency key comes again. `slow` does the work and
    answers after `seconds`; `cut` does the work and ends the connection. `proxy` is one on the way
    that answers 403 by itself.
    """

    kind: str
    calls: int = 1
    path: str = "/v1/"
    seconds: float = 30.0


class Faults:
    """The faults that are due, the oldest first."""

    def __init__(self) -> None:
        self.due: list[Fault] = []

    def take(self, path: str) -> Fault | None:
        """The fault that this call is to meet."""
        for fault in self.due:
            if path.startswith(fault.path):
                fault.calls -= 1
                if fault.calls <= 0:
                    self.due.remove(fault)
                return fault
        return None


def before(fault: Fault | None) -> None:
    """Raises ApiError where the call is to do nothing."""
    if fault and fault.kind == "error":
        raise ApiError("An unknown error occurred.", status=500, kind="api_error")
    if fault and fault.kind == "limit":
        raise ApiError("Too many requests.", status=429, code="rate_limit")


def within(fault: Fault | None, work: Work) -> Work:
    """The work as it goes with the fault: some fail once it has begun."""
    if fault is None or fault.kind not in ("stuck", "broken"):
        return work

    def failing(request: web.Request, parameters: Object) -> Object:
        if fault.kind == "broken":
            work(request, parameters)
        raise ApiError("An unknown error occurred.", status=500, kind="api_error", began=True)

    return failing


async def after(fault: Fault | None, request: web.Request) -> None:
    """What is to come between the work and the answer."""
    if fault and fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    if fault and fault.kind == "cut" and request.transport:
        request.transport.abort()
