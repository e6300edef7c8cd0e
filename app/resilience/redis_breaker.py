"""A circuit breaker for Redis: one that does not answer is not asked for a while."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.logs import ONCE
from app.metrics import CACHE

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_SECONDS = 0.05
"""The timeout of Redis commands and connections."""
OPEN_SECONDS = 1.0
"""How long the breaker stays open: Redis is not asked, so that one that hangs costs little."""
CONCURRENT = 16
"""The most questions at once. With many more, a burst makes this process too slow to read their
answers in time, or needs more connections than the pool has: Redis would seem to be away."""


class RedisUnavailable(Exception):
    """Raised when Redis did not answer, or was not asked."""


def connect(url: str) -> Redis:
    """Return a client with the timeout; connections are opened when they are needed."""
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


class RedisBreaker:
    """Lets CONCURRENT questions run at once, and none for OPEN_SECONDS after one failed."""

    def __init__(self, patience: float | None = None) -> None:
        """`patience` is how many seconds a question waits while CONCURRENT others are running.

        With None it waits for as long as Redis answers those before it.
        """
        self._patience = patience
        self._running = asyncio.Semaphore(CONCURRENT)
        self._open_until = 0.0

    async def ask(self, question: Callable[[], Awaitable[T]], tries: int = 1) -> T:
        """Return Redis's answer. Raises RedisUnavailable.

        A question that waits in vain for others does not open the breaker: Redis may well be there.
        """
        self._require_closed()
        await self._wait()
        try:
            # Redis may have failed to answer those before.
            self._require_closed()
            return await self._answer(question, tries)
        finally:
            self._running.release()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._running.acquire()
        except TimeoutError:
            raise RedisUnavailable from None

    async def _answer(self, question: Callable[[], Awaitable[T]], tries: int) -> T:
        try:
            return await question()
        except (RedisError, OSError) as error:
            if tries > 1:
                return await self._answer(question, tries - 1)
            self._open_until = monotonic() + OPEN_SECONDS
            CACHE.labels("redis", "away").inc()
            log.warning("Redis is away: %s: %s", type(error).__name__, error, extra=ONCE)
            raise RedisUnavailable from error

    def _require_closed(self) -> None:
        if monotonic() < self._open_until:
            raise RedisUnavailable
