"""How often one may try: requests by address, failed logins by account.

The windows are kept in Redis, for all workers together. Where Redis is away or slow, each worker
counts for itself.
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
    """`requests` is the limit of an address, `failures` that of an account's failed logins."""

    def __init__(self, url: str, requests: RateLimitItem, failures: RateLimitItem) -> None:
        self._requests, self._failures = requests, failures
        self._pool: ConnectionPool = ConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        # The URL is the pool's: the library's own reading of URLs insists on a port.
        options: dict[str, Any] = {"connection_pool": self._pool}
        shared = RedisStorage("redis://", implementation="redispy", **options)
        self._shared = MovingWindowRateLimiter(shared)
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._resting_until = 0.0
        self._logins: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """Connections are opened when they are needed."""

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
        """Count what happens inside if it raises InvalidCredentials. Raises TooManyRequests.

        Attempts at one account wait for each other, so that many at once are not more than many
        in a row. An email that has no account is counted like one that has.
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
        """What Redis answers; what this worker knows by itself where Redis does not."""
        if monotonic() >= self._resting_until:
            try:
                return await question(self._shared)
            except (RedisError, OSError) as error:
                self._resting_until = monotonic() + REST_SECONDS
                CACHE.labels("redis", "away").inc()
                log.debug("Redis is away: %r", error)
        return await question(self._own)


def _refusal(stats: WindowStats, kind: str) -> TooManyRequests:
    """The problem, with the seconds until the oldest attempt leaves the window; at least one."""
    RATE_LIMITED.labels(kind).inc()
    return TooManyRequests(max(1, ceil(stats.reset_time - time())))


def _network(address: str | None) -> str:
    """What one client has: an IPv4 address, or the /64 of an IPv6 address (RFC 6177)."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ip_network((ip.packed, 64), strict=False).network_address)
