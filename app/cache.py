"""The Redis cache of orders and products by id. Without Redis every read is a miss, never an error.

Every entry starts with the version of its object. After a commit the writer stores an empty entry,
with the new version and no content, which reads as a miss. An entry is replaced only by one that is
newer, or as new and not empty, so a reader that loaded an object before the commit cannot store it
afterwards.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, cast
from uuid import UUID

import orjson
from redis.exceptions import RedisError

from app.db.transaction import Transaction
from app.metrics import CACHE
from app.resilience.redis_breaker import (
    OPEN_SECONDS,
    TIMEOUT_SECONDS,
    RedisBreaker,
    RedisUnavailable,
    connect,
)

TTL_SECONDS = 600

STORE = """
local ttl = table.remove(ARGV)
for i, key in ipairs(KEYS) do
    local version, content = ARGV[2 * i - 1], ARGV[2 * i]
    local stored = redis.call('GET', key)
    local age = stored and tonumber(version) - tonumber(string.match(stored, '^%d+'))
    if not stored or age > 0 or (age == 0 and content ~= '') then
        -- A Redis that is full refuses SET, unless the script has written before; DEL it takes.
        if content == '' then redis.call('DEL', key) end
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
"""The entries of one eviction script, during which Redis does nothing else."""
MOST = 1000
"""The same for evictions that commits wait for."""

ORDERS, PRODUCTS = "orders", "products"

Load = Callable[[UUID], Awaitable[tuple[int, dict[str, Any]]]]
"""Returns an object's version, and the object."""


class Cache:
    """A cache of JSON objects by kind and id."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._reads = RedisBreaker(patience=TIMEOUT_SECONDS)
        # Of their own: one slow read must not postpone evictions, on which other workers depend.
        self._evictions = RedisBreaker()
        self._owed: dict[str, tuple[float, int]] = {}
        """Evictions still to be made: when noted, and the new version, by key; oldest first."""
        self._settling = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def get(self, kind: str, id: UUID, load: Load) -> dict[str, Any]:
        """Return the cached object, or load it and cache it."""
        key = f"{kind}:{id}"
        if stored := await self._read(key):
            CACHE.labels(kind, "hit").inc()
            return dict(orjson.loads(stored))
        CACHE.labels(kind, "miss").inc()
        version, value = await load(id)
        with suppress(RedisUnavailable):
            await self._reads.ask(partial(self._store, [(key, version, orjson.dumps(value))]))
        return value

    async def _read(self, key: str) -> bytes:
        """Return the entry's content; empty if there is none, or if Redis does not tell."""
        if key in self._owed:
            return b""
        try:
            entry = cast(bytes | None, await self._reads.ask(partial(self._redis.get, key)))
        except RedisUnavailable:
            return b""
        return (entry or b"").partition(b":")[2]

    async def _store(self, entries: Sequence[tuple[str, int, bytes]]) -> None:
        """Store entries that are newer than the stored ones, or as new and not empty."""
        keys = [key for key, _, _ in entries]
        arguments = [part for _, version, content in entries for part in (version, content)]
        await self._redis.eval(STORE, len(keys), *keys, *arguments, TTL_SECONDS)

    async def after_commit(self, transaction: Transaction) -> None:
        """Evict what the commit made stale, by storing empty entries.

        Also evicts orders that were locked or read and did not change: the worker that changed them
        may have died before it evicted them.
        """
        self._owe(ORDERS, transaction.order_versions)
        self._owe(PRODUCTS, transaction.product_versions)
        await self.evict_owed()

    async def evict_older(self, kind: str, versions: Mapping[UUID, int]) -> None:
        """Delete entries older than these versions, in small batches. Retries until Redis answers.

        No empty entries are needed: the changes are so old that no reader is about to store an
        object that it loaded before them.
        """
        left = list(versions.items())
        while left:
            some = left[-FEW:]
            keys = [f"{kind}:{id}" for id, _ in some]
            try:
                await self._redis.eval(EVICT_OLDER, len(keys), *keys, *(least for _, least in some))
                del left[-FEW:]
            except (RedisError, OSError):
                await asyncio.sleep(OPEN_SECONDS)

    async def evict(self, kind: str, versions: Mapping[UUID, int]) -> None:
        """Evict what is older than these versions; while Redis does not answer, note it for later.

        Until then, this worker reads these objects from PostgreSQL.
        """
        self._owe(kind, versions)
        await self.evict_owed()

    def _owe(self, kind: str, changed: Mapping[UUID, int]) -> None:
        moment = monotonic()
        for id, version in changed.items():
            key = f"{kind}:{id}"
            # A version that was read without a lock may be older than the one noted already.
            _, owed = self._owed.pop(key, (moment, version))
            self._owed[key] = (moment, max(version, owed))

    async def evict_owed(self) -> None:
        """Make the noted evictions while Redis is available."""
        async with self._settling:
            try:
                # Not until none is left: under load there always is one that was noted meanwhile.
                for _ in range(0, len(self._owed), MOST):
                    await self._evict(list(islice(self._owed.items(), MOST)))
            except RedisUnavailable:
                self._forget_expired()

    async def _evict(self, owed: Sequence[tuple[str, tuple[float, int]]]) -> None:
        entries = [(key, version, b"") for key, (_, version) in owed]
        # Two tries: on a busy machine this process is often itself too slow to read the answer in
        # time, and noted evictions are lost if it dies.
        await self._evictions.ask(partial(self._store, entries), tries=2)
        for key, debt in owed:
            if self._owed.get(key) == debt:
                del self._owed[key]

    def _forget_expired(self) -> None:
        """Drop evictions of entries that must have expired by now."""
        horizon = monotonic() - TTL_SECONDS
        while self._owed and next(iter(self._owed.values()))[0] < horizon:
            del self._owed[next(iter(self._owed))]
