"""Redis: orders and products by id. A cache that is away costs a miss, never an error.

Every entry starts with the version of what it holds. A writer leaves an empty entry after its
commit, its version and no content, which reads as a miss. An entry gives way only to
one that is at least as new, so a reader that loaded before the commit cannot store after it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from time import monotonic
from typing import Any, cast
from uuid import UUID

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.metrics import CACHE
from app.transaction import Transaction

log = logging.getLogger(__name__)

TTL_SECONDS = 600
TIMEOUT_SECONDS = 0.05
REST_SECONDS = 1.0
"""How long Redis is left alone after it did not answer, so that a hanging one costs little."""

STORE = """
local ttl = table.remove(ARGV)
for i, key in ipairs(KEYS) do
    local version, content = ARGV[2 * i - 1], ARGV[2 * i]
    local stored = redis.call('GET', key)
    if not stored or tonumber(string.match(stored, '^%d+')) <= tonumber(version) then
        redis.call('SET', key, version .. ':' .. content, 'EX', ttl)
    end
end
"""

EVICT_OLDER = """
for i, key in ipairs(KEYS) do
    local stored = redis.call('GET', key)
    if stored and tonumber(string.match(stored, '^%d+')) < tonumber(ARGV[i]) then
        redis.call('DEL', key)
    end
end
"""
FEW = 200
"""Entries that are looked at while Redis does nothing else."""

ORDERS, PRODUCTS = "orders", "products"

Load = Callable[[UUID], Awaitable[tuple[int, dict[str, Any]]]]
"""Gives an object's version, and the object."""


class Cache:
    """JSON objects by kind and id."""

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._owed: dict[str, tuple[float, int]] = {}
        self._settling = asyncio.Lock()
        self._resting_until = 0.0

    async def open(self) -> None:
        """Connections are opened when they are needed."""

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def get(self, kind: str, id: UUID, load: Load) -> dict[str, Any]:
        """The cached object, else what `load` gives, which is then cached."""
        key = f"{kind}:{id}"
        if stored := await self._read(key):
            CACHE.labels(kind, "hit").inc()
            return dict(orjson.loads(stored))
        CACHE.labels(kind, "miss").inc()
        version, value = await load(id)
        if not self._resting:
            await self._store([(key, version, orjson.dumps(value))])
        return value

    async def _read(self, key: str) -> bytes:
        """The content of the entry; empty for none, too, and where Redis is away."""
        if self._resting or key in self._owed:
            return b""
        try:
            entry = cast(bytes | None, await self._redis.get(key))
        except (RedisError, OSError) as error:
            self._away(error)
            return b""
        return (entry or b"").partition(b":")[2]

    async def _store(self, entries: Sequence[tuple[str, int, bytes]], tries: int = 1) -> bool:
        """Store those entries that are not older than what is there; whether Redis took them."""
        keys = [key for key, _, _ in entries]
        arguments = [part for _, version, content in entries for part in (version, content)]
        try:
            await self._redis.eval(STORE, len(keys), *keys, *arguments, TTL_SECONDS)
            return True
        except (RedisError, OSError) as error:
            if tries > 1:
                return await self._store(entries, tries - 1)
            self._away(error)
            return False

    async def after_commit(self, transaction: Transaction) -> None:
        """Leave an empty entry for whatever the commit made old.

        Also for an order that was locked or read and did not change: the transaction that changed
        it may have died before it came to this.
        """
        self._owe(ORDERS, transaction.order_versions)
        self._owe(PRODUCTS, transaction.product_versions)
        await self.evict_owed()

    async def evict_older(self, kind: str, versions: Mapping[UUID, int]) -> None:
        """Evict what is there in an older version than these, little by little.

        They are too old for a reader to be about to store what came before. Waits for Redis.
        """
        left = list(versions.items())
        while left:
            some = left[-FEW:]
            keys = [f"{kind}:{id}" for id, _ in some]
            try:
                await self._redis.eval(EVICT_OLDER, len(keys), *keys, *(least for _, least in some))
                del left[-FEW:]
            except (RedisError, OSError):
                await asyncio.sleep(REST_SECONDS)

    def _owe(self, kind: str, changed: Mapping[UUID, int]) -> None:
        moment = monotonic()
        for id, version in changed.items():
            key = f"{kind}:{id}"
            # What was read without a lock may be older than what is owed already.
            _, owed = self._owed.pop(key, (moment, version))
            self._owed[key] = (moment, max(version, owed))

    async def evict_owed(self) -> None:
        """Evict what is owed, if Redis is there; what others owe meanwhile goes along."""
        async with self._settling:
            while not self._resting and (owed := list(islice(self._owed.items(), 1000))):
                # Twice: on a busy machine it is often this process that was too slow to hear the
                # answer, and what is owed is forgotten if the process dies before it is made.
                if await self._store([(key, version, b"") for key, (_, version) in owed], tries=2):
                    for key, debt in owed:
                        if self._owed.get(key) == debt:
                            del self._owed[key]

    @property
    def _resting(self) -> bool:
        return monotonic() < self._resting_until

    def _away(self, error: Exception) -> None:
        """Leave Redis alone for a while, and forget debts older than anything it may still hold."""
        self._resting_until = monotonic() + REST_SECONDS
        horizon = monotonic() - TTL_SECONDS
        while self._owed and next(iter(self._owed.values()))[0] < horizon:
            del self._owed[next(iter(self._owed))]
        CACHE.labels("redis", "away").inc()
        log.debug("Redis is away: %r", error)
