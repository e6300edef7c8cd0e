"""Rate limits: of requests by client address, and of failed logins by account.

The windows are kept in Redis and shared by all workers. While Redis is unavailable or slow, each
worker counts for itself; the failed logins of that time count on afterwards. A burst waits for
Redis as long as Redis answers: the worker's own counts know nothing of what Redis has counted, so
whoever could make a worker use them would have more attempts.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import ceil
from time import time
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.util import WindowStats

from app.errors import InvalidCredentials, TooManyRequests
from app.metrics import RATE_LIMITED
from app.resilience.bulkhead import Bulkhead
from app.resilience.redis_breaker import RedisBreaker, RedisUnavailable, connect

T = TypeVar("T")

MAX_ARRIVALS = 500
"""The most requests that wait to be counted, so that a flood does not make all others wait."""


class RateLimits:
    """Counts against the limits: `requests` by address, `failures` by account (failed logins)."""

    def __init__(self, url: str, requests: RateLimitItem, failures: RateLimitItem) -> None:
        self._requests, self._failures = requests, failures
        self._redis = connect(url)
        # The pool has the URL: the library's own URL parsing requires a port.
        options: dict[str, Any] = {"connection_pool": self._redis.connection_pool}
        shared = RedisStorage("redis://", implementation="redispy", **options)
        self._shared = MovingWindowRateLimiter(shared)
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._breaker = RedisBreaker()
        self._arrivals = Bulkhead(concurrent=MAX_ARRIVALS, waiting=0)
        self._logins: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def count_request(self, address: str | None) -> None:
        """Count a request from this address. Raises TooManyRequests, Overloaded."""
        key = ("address", _network(address))
        async with self._arrivals.enter():
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
        """Return the window of Redis's and this worker's own counts.

        An attempt is in one of them; in both if Redis has counted it too late.
        """
        own = await self._own.get_window_stats(limit, kind, key)
        try:
            shared = await self._breaker.ask(
                lambda: self._shared.get_window_stats(limit, kind, key)
            )
        except RedisUnavailable:
            return own
        if own.remaining == limit.amount:
            return shared
        used = 2 * limit.amount - own.remaining - shared.remaining
        return WindowStats(min(own.reset_time, shared.reset_time), limit.amount - used)

    async def _ask(self, question: Callable[[MovingWindowRateLimiter], Awaitable[T]]) -> T:
        """Return Redis's answer or, if Redis does not answer, that of this worker's own counts."""
        try:
            return await self._breaker.ask(partial(question, self._shared))
        except RedisUnavailable:
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
