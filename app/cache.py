"""Redis: orders and products by id. A cache that is away costs a miss, never an error.

A writer does not delete what it made old: it puts a fence there, which lives for FENCE_MS and reads
as a miss. A reader stores only where nothing stands, so one that loaded before the writer's commit
and comes to store after its eviction finds the fence. FENCE_MS is longer than a read can take.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from time import monotonic
from typing import Any, cast
from uuid import UUID

import orjson
import redis.asyncio
from redis.exceptions import RedisError

from app.db import Transaction
from app.metrics import CACHE

log = logging.getLogger(__name__)

TTL_SECONDS = 600
FENCE = b"-"
FENCE_MS = 15_000
PATIENCE_SECONDS = 0.05

ORDERS, PRODUCTS = "orders", "products"


class Cache:
    """JSON objects by kind and id."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
        )
        self._owed: dict[str, float] = {}

    async def open(self) -> None:
        """Connections are opened when they are needed."""

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def get(
        self, kind: str, id: UUID, load: Callable[[UUID], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """The cached object, else what `load` gives, which is then cached."""
        key = f"{kind}:{id}"
        stored = await self._read(key)
        if stored and stored != FENCE:
            CACHE.labels(kind, "hit").inc()
            return dict(orjson.loads(stored))
        CACHE.labels(kind, "miss").inc()
        value = await load(id)
        if stored is None:
            await self._store(key, value)
        return value

    async def _read(self, key: str) -> bytes | None:
        if not await self._pay():
            return FENCE
        try:
            return cast(bytes | None, await self._redis.get(key))
        except (RedisError, OSError) as error:
            self._away(error)
            return FENCE

    async def _store(self, key: str, value: dict[str, Any]) -> None:
        try:
            await self._redis.set(key, orjson.dumps(value), ex=TTL_SECONDS, nx=True)
        except (RedisError, OSError) as error:
            self._away(error)

    async def evict_changed(self, transaction: Transaction) -> None:
        """After a commit: fence off what it made old."""
        await self.evict(ORDERS, transaction.changed_orders)
        await self.evict(PRODUCTS, transaction.changed_products)

    async def evict(self, kind: str, ids: Iterable[UUID]) -> None:
        """Fence off those objects; where Redis is away, that is owed until it is back."""
        self._owed.update({f"{kind}:{id}": monotonic() for id in ids})
        await self._pay()

    async def _pay(self) -> bool:
        """Put the fences that are owed; whether none is owed any more."""
        while owed := list(islice(self._owed.items(), 1000)):
            try:
                pipeline = self._redis.pipeline(transaction=False)
                for key, _ in owed:
                    pipeline.set(key, FENCE, px=FENCE_MS)
                await pipeline.execute()
            except (RedisError, OSError) as error:
                self._away(error)
                self._forgive()
                return False
            for key, since in owed:
                if self._owed.get(key) == since:
                    del self._owed[key]
        return True

    def _forgive(self) -> None:
        """Drop debts older than anything Redis may still hold."""
        horizon = monotonic() - TTL_SECONDS
        while self._owed and next(iter(self._owed.values())) < horizon:
            del self._owed[next(iter(self._owed))]

    def _away(self, error: Exception) -> None:
        CACHE.labels("redis", "away").inc()
        log.debug("Redis is away: %r", error)
