"""An order's timeline: its events in the outbox, and notification of new ones."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import orjson
from asyncpg import PostgresError

from app.cache import ORDERS, Cache
from app.db.errors import AWAY
from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.times import rfc3339

log = logging.getLogger(__name__)

PAGE = 100
TICK_SECONDS = 0.5
"""How long followers of an order may not notice a commit of another worker."""

ENVELOPE = {"eventId", "orderId", "sequence", "occurredAt", "requestId"}
INTERNAL = {"answer", "fingerprint", "idempotencyKey", "keyExpiresAt"}


async def events_after(database: Database, order_id: UUID, sequence: int) -> list[dict[str, Any]]:
    """Return the order's committed events after `sequence` (0: all), oldest first.

    Each is {sequence, type, occurredAt, requestId, data}; `type` is the topic's name. An order that
    does not exist has none. Raises one of AWAY.
    """
    events: list[dict[str, Any]] = []
    async with database.connection() as connection:
        while True:
            after = events[-1]["sequence"] if events else sequence
            rows = await sql.events_after(
                connection, order_id=order_id, sequence=after, page_size=PAGE
            )
            events += [_event_json(row) for row in rows]
            if len(rows) < PAGE:
                return events


def _event_json(row: Any) -> dict[str, Any]:
    payload = orjson.loads(row["payload"])
    return {
        "sequence": row["sequence"],
        "type": row["topic"],
        "occurredAt": rfc3339(row["occurred_at"]),
        "requestId": row["request_id"],
        "data": {name: payload[name] for name in payload.keys() - ENVELOPE - INTERNAL},
    }


class Followers:
    """Wakes the followers of an order when it has new events.

    Commits of this worker wake them at once, through `after_commit`. Those of other workers are
    found by one query per tick for all followed orders; without followers there is no query.
    A follower that was woken does not find the old state in the cache.
    """

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache
        self._wakes: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._known: dict[UUID, int] = {}
        self._watching: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def follow(self, order_id: UUID) -> AsyncIterator[asyncio.Event]:
        """Yield an asyncio.Event that is set whenever the order may have new events.

        To miss none, clear it, then read the timeline, then wait for it.
        """
        wake = asyncio.Event()
        self._wakes[order_id].add(wake)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            yield wake
        finally:
            self._leave(order_id, wake)

    def _leave(self, order_id: UUID, wake: asyncio.Event) -> None:
        self._wakes[order_id].discard(wake)
        if not self._wakes[order_id]:
            del self._wakes[order_id]
            self._known.pop(order_id, None)
        if not self._wakes and self._watching:
            self._watching.cancel()
            self._watching = None

    async def after_commit(self, transaction: Transaction) -> None:
        """Wake the followers of the orders whose events the transaction emitted."""
        # Not noted as known: this commit may have failed, and the same versions may come again.
        for event in transaction.events:
            self._wake(event.order_id)

    def _wake(self, order_id: UUID) -> None:
        for wake in self._wakes.get(order_id, ()):
            wake.set()

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except (*AWAY, PostgresError) as error:
                log.debug("Followers hear of other workers later: %r", error)
            await asyncio.sleep(TICK_SECONDS)

    async def look(self) -> None:
        """Query the versions of all followed orders, and wake followers. Raises one of AWAY."""
        async with self._database.connection() as connection:
            rows = await sql.order_versions(connection, ids=list(self._wakes))
        found = {row["id"]: row["version"] for row in rows}
        changed = {id: found[id] for id in found if found[id] > self._known.get(id, 0)}
        if changed:
            # The worker that changed them may not have evicted them yet.
            await self._cache.evict(ORDERS, changed)
        for order_id in changed.keys() & self._wakes.keys():
            self._known[order_id] = changed[order_id]
            self._wake(order_id)
