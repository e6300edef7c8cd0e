"""Requests of one kind that arrive while others are under way share the next transaction."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import asyncpg

from app.db import AWAY

log = logging.getLogger(__name__)

Wanted = TypeVar("Wanted")
Done = TypeVar("Done")

LOCKED = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
"""One request's lock, which its neighbours need not wait for."""

MAX_TOGETHER = 100
"""Requests of one transaction."""
TIMEOUT_SECONDS = 5.0
"""How long a request may wait to begin: as long as one would wait for a connection."""
LOOK_SECONDS = 1.0
"""How often those are looked for who have waited longer."""


@dataclass(slots=True)
class _Request(Generic[Wanted, Done]):
    wanted: Wanted
    future: "asyncio.Future[Done]"
    context: Context
    """The request's own: log lines tell its id."""
    leaves_at: float
    """When nobody waits any more for it to begin; seconds of `monotonic`."""


class Gathering(Generic[Wanted, Done]):
    """Does requests together where they would wait anyway; nobody waits for company.

    `together` gives for each request what came of it, or None where that one has to be done alone:
    whatever is not plain, errors included. `alone` does one request, or raises. Where PostgreSQL
    refuses the whole, all are done alone, so a bad request costs its neighbours time and nothing
    else.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Wanted]], Awaitable[Sequence[Done | None]]],
        alone: Callable[[Wanted], Awaitable[Done]],
    ) -> None:
        self._together = together
        self._alone = alone
        self._waiting: list[_Request[Wanted, Done]] = []
        self._under_way: asyncio.Task[None] | None = None
        """One transaction: with more of them, fewer would find company."""
        self._special: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle

    async def do(self, wanted: Wanted) -> Done:
        """What comes of the request. Raises what `alone` raises, and what AWAY lists."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        leaves_at = monotonic() + TIMEOUT_SECONDS
        self._waiting.append(_Request(wanted, future, copy_context(), leaves_at))
        self._begin()
        # What is begun is finished, even if nobody waits for it any more.
        return await asyncio.shield(future)

    def _begin(self) -> None:
        if self._waiting and self._under_way is None:
            # In no request's context: it may do many.
            self._under_way = asyncio.create_task(self._take(), context=Context())
            self._under_way.add_done_callback(self._ended, context=Context())

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self._under_way = None
        self._begin()

    async def _take(self) -> None:
        self._dismiss_late()
        batch, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
        try:
            special = await self._do_together(batch) if batch else []
        finally:
            self._looking.cancel()
        tasks = [asyncio.create_task(self._do_alone(one), context=one.context) for one in special]
        self._special.update(tasks)
        for task in tasks:
            task.add_done_callback(self._special.discard)

    def _dismiss_late(self) -> None:
        """Let go who has waited too long, and look again: what is under way may hang."""
        now = monotonic()
        late = [one for one in self._waiting if one.leaves_at < now]
        self._waiting = [one for one in self._waiting if one.leaves_at >= now]
        _fail(late, TimeoutError("it has not begun in time"))
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(LOOK_SECONDS, self._dismiss_late)

    async def _do_together(
        self, batch: list[_Request[Wanted, Done]]
    ) -> list[_Request[Wanted, Done]]:
        """Those that are left to be done alone."""
        try:
            outcomes = await self._together([one.wanted for one in batch])
        except LOCKED as error:
            log.info("%d requests are done one by one: %r", len(batch), error)
            return batch
        except AWAY as error:
            # Whoever waits behind would wait as long, for the same answer.
            _fail([*batch, *self._waiting], error)
            self._waiting.clear()
            return []
        except asyncpg.PostgresError as error:
            log.info("%d requests are done one by one: %r", len(batch), error)
            return batch
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
