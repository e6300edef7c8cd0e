"""Requests of one kind that arrive while others are under way share the next transaction."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import asyncpg

from app.db import AWAY

log = logging.getLogger(__name__)

Wanted = TypeVar("Wanted")
Done = TypeVar("Done")

LOCKED = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)
"""One request's lock, which its neighbours need not wait for."""

AT_ONCE = 2
"""Transactions under way; with more of them, fewer requests would find company."""
MOST = 100
"""Requests of one transaction."""


class Gathering(Generic[Wanted, Done]):
    """Does requests together where they would wait anyway; nobody waits for company.

    `together` gives for each request what came of it, or None where that one has to be done alone:
    whatever is not plain, errors included. `alone` does one request, or raises. Where `together`
    raises, all are done alone, so a bad request costs its neighbours time and nothing else.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Wanted]], Awaitable[Sequence[Done | None]]],
        alone: Callable[[Wanted], Awaitable[Done]],
    ) -> None:
        self._together = together
        self._alone = alone
        self._waiting: list[tuple[Wanted, asyncio.Future[Done]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._special: set[asyncio.Task[None]] = set()

    async def do(self, wanted: Wanted) -> Done:
        """What comes of the request. Raises what `alone` raises, and what AWAY lists."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        self._begin()
        # What is begun is finished, even if nobody waits for it any more.
        return await asyncio.shield(future)

    def _begin(self) -> None:
        if self._waiting and len(self._under_way) < AT_ONCE:
            task = asyncio.create_task(self._take())
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._begin()

    async def _take(self) -> None:
        batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        if len(batch) == 1:
            await self._do_alone(*batch[0])
            return
        # One that was begun at the same time may have left nothing.
        for wanted, future in await self._do_together(batch) if batch else []:
            task = asyncio.create_task(self._do_alone(wanted, future))
            self._special.add(task)
            task.add_done_callback(self._special.discard)

    async def _do_together(self, batch: list[tuple[Wanted, asyncio.Future[Done]]]) -> Any:
        """Those that are left to be done alone."""
        outcomes: Sequence[Done | None] = [None] * len(batch)
        try:
            outcomes = await self._together([wanted for wanted, _ in batch])
        except Exception as error:
            if isinstance(error, AWAY) and not isinstance(error, LOCKED):
                for _, future in batch:
                    future.set_exception(error)
                return []
            log.info("%d requests are done one by one: %r", len(batch), error)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if outcome is not None:
                future.set_result(outcome)
        return [one for one, outcome in zip(batch, outcomes, strict=True) if outcome is None]

    async def _do_alone(self, wanted: Wanted, future: asyncio.Future[Done]) -> None:
        try:
            future.set_result(await self._alone(wanted))
        except Exception as error:
            future.set_exception(error)
