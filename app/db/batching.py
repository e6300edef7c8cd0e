"""Batching: requests, or agents' batches, that arrive while one is running share the next one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import asyncpg

from app.db.errors import AWAY

log = logging.getLogger(__name__)

Wanted = TypeVar("Wanted")
Done = TypeVar("Done")

LOCKED = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
"""A lock timed out, or the batch was rolled back: its requests are then done alone."""

MAX_TOGETHER = 100
"""The most requests in one transaction."""
TIMEOUT_SECONDS = 5.0
"""How long a request may wait to begin; as long as a request would wait for a connection."""
LOOK_SECONDS = 1.0
"""How often requests that have waited longer are looked for."""


@dataclass(slots=True)
class _Request(Generic[Wanted, Done]):
    wanted: Wanted
    future: "asyncio.Future[Done]"
    context: Context
    """The request's context, so that log lines carry its id."""
    leaves_at: float
    """When it fails if it has not begun, in seconds of `monotonic`."""


class Batcher(Generic[Wanted, Done]):
    """Batches requests that would have to wait anyway; no request is delayed to fill a batch.

    `together` returns a result for each request of a batch, or None for one that has to be done
    alone, because it has an error or is not plain. `alone` does one request, or raises. If
    PostgreSQL refuses a batch, all its requests are done alone, so a bad request costs the others
    no more than time. `note_wait` is told how long a batch's first request has waited, in seconds.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Wanted]], Awaitable[Sequence[Done | None]]],
        alone: Callable[[Wanted], Awaitable[Done]],
        note_wait: Callable[[float], None] | None = None,
    ) -> None:
        self._together = together
        self._alone = alone
        self._note_wait = note_wait
        self._waiting: list[_Request[Wanted, Done]] = []
        self._under_way: asyncio.Task[None] | None = None
        """The running batch. There is one at a time: more would each have fewer requests."""
        self._special: set[asyncio.Task[None]] = set()
        """The requests that are being done alone."""
        self._looking: asyncio.TimerHandle
        """The timer that fails late requests while a batch is running."""

    async def do(self, wanted: Wanted) -> Done:
        """Return the request's result. Raises what `alone` raises, and one of AWAY."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        leaves_at = monotonic() + TIMEOUT_SECONDS
        self._waiting.append(_Request(wanted, future, copy_context(), leaves_at))
        self._begin()
        # A request that was accepted is completed even if its caller is cancelled.
        return await asyncio.shield(future)

    def _begin(self) -> None:
        if self._waiting and self._under_way is None:
            # An empty context: the task serves many requests.
            self._under_way = asyncio.create_task(self._take(), context=Context())
            self._under_way.add_done_callback(self._ended, context=Context())

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self._under_way = None
        self._begin()

    async def _take(self) -> None:
        self._dismiss_late()
        batch, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
        if batch and self._note_wait:
            self._note_wait(TIMEOUT_SECONDS - (batch[0].leaves_at - monotonic()))
        try:
            special = await self._do_together(batch) if batch else []
        finally:
            self._looking.cancel()
        tasks = [asyncio.create_task(self._do_alone(one), context=one.context) for one in special]
        self._special.update(tasks)
        for task in tasks:
            task.add_done_callback(self._special.discard)

    def _dismiss_late(self) -> None:
        """Fail requests that have waited too long, and check again later: the batch may hang."""
        now = monotonic()
        late = [one for one in self._waiting if one.leaves_at < now]
        self._waiting = [one for one in self._waiting if one.leaves_at >= now]
        _fail(late, TimeoutError("it has not begun in time"))
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(LOOK_SECONDS, self._dismiss_late)

    async def _do_together(
        self, batch: list[_Request[Wanted, Done]]
    ) -> list[_Request[Wanted, Done]]:
        """Do a batch; return the requests that are left to be done alone."""
        try:
            outcomes = await self._together([one.wanted for one in batch])
        except (*AWAY, asyncpg.PostgresError) as error:
            if isinstance(error, LOCKED) or not isinstance(error, AWAY):
                log.info("%d requests are done one by one: %r", len(batch), error)
                return batch
            # The requests behind it would wait as long, for the same error.
            _fail([*batch, *self._waiting], error)
            self._waiting.clear()
            return []
        except Exception as error:
            _fail(batch, error)
            return []
        for one, outcome in zip(batch, outcomes, strict=True):
            if outcome is not None:
                one.future.set_result(outcome)
        return [one for one, outcome in zip(batch, outcomes, strict=True) if outcome is None]

    async def _do_alone(self, one: _Request[Wanted, Done]) -> None:
        try:
            one.future.set_result(await self._alone(one.wanted))
        except Exception as error:
            one.future.set_exception(error)


def _fail(requests: Sequence[_Request[Any, Any]], error: Exception) -> None:
    for one in requests:
        one.future.set_exception(error)
