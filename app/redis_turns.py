"""Turns at Redis: few questions at once, and a rest for a Redis that does not answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.metrics import CACHE

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_SECONDS = 0.05
"""The timeout of Redis commands and connections."""
REST_SECONDS = 1.0
"""How long Redis is not asked after it failed to answer, so that one that hangs costs little."""
CONCURRENT = 16
"""The most questions at once. With many more, a burst makes this process too slow to read their
answers in time, or needs more connections than the pool has: Redis would seem to be away."""


class Unanswered(Exception):
    """Raised when Redis did not answer, or was not asked."""


def connect(url: str) -> Redis:
    """Return a client with the timeout; connections are opened when they are needed."""
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


class RedisTurns:
    """Lets few questions at Redis run at once, and none for REST_SECONDS after one failed."""

    def __init__(self, patience: float | None = None) -> None:
        """`patience` is how many seconds a question waits for its turn.

        With None it waits for as long as Redis answers those before it.
        """
        self._patience = patience
        self._turns = asyncio.Semaphore(CONCURRENT)
        self._rests_until = 0.0

    async def ask(self, question: Callable[[], Awaitable[T]], tries: int = 1) -> T:
        """Return Redis's answer. Raises Unanswered.

        That a question finds no turn in time is no sign that Redis is away.
        """
        self._require_awake()
        await self._wait()
        try:
            # Redis may have failed to answer those before.
            self._require_awake()
            return await self._answer(question, tries)
        finally:
            self._turns.release()

    async def _wait(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()  # at once, without the cost of a timeout
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            raise Unanswered from None

    async def _answer(self, question: Callable[[], Awaitable[T]], tries: int) -> T:
        try:
            return await question()
        except (RedisError, OSError) as error:
            if tries > 1:
                return await self._answer(question, tries - 1)
            self._rests_until = monotonic() + REST_SECONDS
            CACHE.labels("redis", "away").inc()
            log.debug("Redis is away: %r", error)
            raise Unanswered from error

    def _require_awake(self) -> None:
        if monotonic() < self._rests_until:
            raise Unanswered
