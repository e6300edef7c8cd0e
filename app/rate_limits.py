"""Rate limits: of requests by client address, and of failed logins by account.

The windows are kept in Redis and shared by all workers. While Redis is unavailable or slow, each
worker counts for itself.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import ceil
from time import monotonic, time
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.util import WindowStats
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.cache import REST_SECONDS, TIMEOUT_SECONDS
from app.errors import InvalidCredentials, TooManyRequests
from app.metrics import CACHE, RATE_LIMITED

log = logging.getLogger(__name__)

T = TypeVar("T")


class RateLimits:
    """Counts against the limits: `requests` by address, `failures` by account (failed logins)."""

    def __init__(self, url: str, requests: RateLimitItem, failures: RateLimitItem) -> None:
        self._requests, self._failures = requests, failures
        self._pool: ConnectionPool = ConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        # The pool has the URL: the library's own URL parsing requires a port.
        options: dict[str, Any] = {"connection_pool": self._pool}
        shared = RedisStorage("redis://", implementation="redispy", **options)
        self._shared = MovingWindowRateLimiter(shared)
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._resting_until = 0.0
        self._logins: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """Do nothing: connections are opened when they are needed."""

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def count_request(self, address: str | None) -> None:
        """Count a request from this address. Raises TooManyRequests."""
        key = ("address", _network(address))
        if not await self._ask(lambda limiter: limiter.hit(self._requests, *key)):
            raise _refusal(await self._stats(self._requests, *key), key[0])

    @asynccontextmanager
    async def login(self, email: str) -> AsyncIterator[None]:
        """Count the body as a failure if it raises InvalidCredentials. Raises TooManyRequests.

        Concurrent attempts at one account wait for each other, so that they cannot exceed the
        limit. An email without an account is counted like one with an account.
        """
        key = ("account", sha256(email.lower().encode()).hexdigest())
        async with self._logins.setdefault(key[1], asyncio.Lock()):
            stats = await self._stats(self._failures, *key)
            if stats.remaining <= 0:
                raise _refusal(stats, key[0])
            try:
                yield
            except InvalidCredentials:
                await self._ask(lambda limiter: limiter.hit(self._failures, *key))
                raise

    async def _stats(self, limit: RateLimitItem, kind: str, key: str) -> WindowStats:
        return await self._ask(lambda limiter: limiter.get_window_stats(limit, kind, key))

    async def _ask(self, question: Callable[[MovingWindowRateLimiter], Awaitable[T]]) -> T:
        """Return Redis's answer or, if Redis does not answer, that of this worker's own counts."""
        if monotonic() >= self._resting_until:
            try:
                return await question(self._shared)
            except (RedisError, OSError) as error:
                self._resting_until = monotonic() + REST_SECONDS
                CACHE.labels("redis", "away").inc()
                log.debug("Redis is away: %r", error)
        return await question(self._own)


def _refusal(stats: WindowStats, kind: str) -> TooManyRequests:
    """Count a refusal in the metrics, and return its problem.

    `retry_after` is the seconds until the oldest attempt leaves the window, at least one.
    """
    RATE_LIMITED.labels(kind).inc()
    return TooManyRequests(max(1, ceil(stats.reset_time - time())))


def _network(address: str | None) -> str:
    """Return what one client has: an IPv4 address, or the /64 of an IPv6 address (RFC 6177)."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ip_network((ip.packed, 64), strict=False).network_address)
