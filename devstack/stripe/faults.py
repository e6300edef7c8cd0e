"""Faults that tests inject into API calls."""

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
    """A fault of the next `calls` calls, by `method` if given, to paths that start with `path`.

    Kinds: `error`, `limit` and `refuse` do nothing and answer 500, 429 and 403. `stuck` and
    `depends` do nothing and `broken` does the work; they answer 500 (`depends`: 424), and store
    that under the idempotency key. `slow` does the work and answers after `seconds`; `cut` does the
    work and closes the connection without an answer. `proxy` does nothing and answers 403 with
    HTML.
    """

    kind: str
    calls: int = 1
    path: str = "/v1/"
    seconds: float = 30.0
    method: str | None = None


class Faults:
    """The pending faults, oldest first."""

    def __init__(self) -> None:
        self.due: list[Fault] = []

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for this call, if any, and count the call."""
        for fault in self.due:
            if path.startswith(fault.path) and fault.method in (None, method):
                fault.calls -= 1
                if fault.calls <= 0:
                    self.due.remove(fault)
                return fault
        return None


def before(fault: Fault | None) -> None:
    """Raise ApiError if the fault prevents the work."""
    if fault and fault.kind == "error":
        raise ApiError("An unknown error occurred.", status=500, kind="api_error")
    if fault and fault.kind == "limit":
        raise ApiError("Too many requests.", status=429, code="rate_limit")
    if fault and fault.kind == "refuse":
        raise ApiError("The key lacks the permission for this.", status=403)


def within(fault: Fault | None, work: Work) -> Work:
    """Return the work with the fault in it: some faults begin once the work has begun."""
    if fault is None or fault.kind not in ("stuck", "depends", "broken"):
        return work
    status = 424 if fault.kind == "depends" else 500

    def failing(request: web.Request, parameters: Object) -> Object:
        if fault.kind == "broken":
            work(request, parameters)
        raise ApiError("An unknown error occurred.", status=status, kind="api_error", began=True)

    return failing


async def after(fault: Fault | None, request: web.Request) -> None:
    """Delay the answer or close the connection after the work, as the fault says."""
    if fault and fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    if fault and fault.kind == "cut" and request.transport:
        request.transport.abort()
