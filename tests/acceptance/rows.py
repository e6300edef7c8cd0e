"""Insert rows that no client can, for a worker to come across."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

MANUAL = (Path(__file__).parents[2] / "docs/operations.md").read_text()
_PENDING = """
    insert into payments
        (id, order_id, provider, amount_minor, currency, status, created_at, updated_at)
    values ($1, $2, 'internal', 99800, 'PLN', 'PENDING', now(), now())
"""
_FAILED = """
    insert into payments
        (id, order_id, provider, amount_minor, currency, status, created_at, updated_at)
    select gen_random_uuid(), $1::uuid, 'stripe', 49900, 'PLN', 'FAILED', now(), now()
    from generate_series(1, $2::int)
"""
_PARKED = """
    insert into parked_messages (
        handler, topic, partition, "offset", order_id, state, holds_order, key, value, headers,
        error, attempts, parked_at
    )
    select 'replays.remember', topic, 0, -id, order_id, 'PARKED', true, null,
        convert_to(payload::text, 'UTF8'), '{}', 'refused', 1, now()
    from outbox where order_id = $1 and topic = 'order.created'
    returning id::text
"""
_CLAIMED = "insert into idempotency_keys values ($1, $2, 'x', null, now() + interval '1 day')"


class Rows:
    """Writes directly to PostgreSQL, in a session of its own."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add_pending_payment(self, order: dict[str, Any]) -> None:
        """Add a payment that no agent was told of, so none captures it."""
        await self._connection.execute(_PENDING, uuid4(), order["id"])

    async def add_failed_attempts(self, order: dict[str, Any], count: int) -> None:
        """Add so many attempts to pay at Stripe that have failed."""
        await self._connection.execute(_FAILED, order["id"], count)

    async def add_unsettled_key(self, user_id: str, key: str) -> None:
        """Add the key of a finished request without an answer, a state the service never leaves."""
        await self._connection.execute(_CLAIMED, user_id, key)

    async def send_again(self, order: dict[str, Any]) -> None:
        """Have the order's events sent again, by the statement of the manual."""
        (statement,) = re.findall("update outbox .* order_id = 'ORDER';", MANUAL)
        await self._connection.execute(statement.replace("ORDER", order["id"]))

    async def park(self, order: dict[str, Any]) -> str:
        """Park the order's creation, though nothing is wrong with it; return the message's id."""
        return str(await self._connection.fetchval(_PARKED, order["id"]))

    @asynccontextmanager
    async def unreservable(self, order: dict[str, Any]) -> AsyncIterator[None]:
        """Let PostgreSQL refuse inventory's decision on the order while the context lasts."""
        flaw = f"check (order_id <> '{order['id']}')"
        await self._connection.execute(
            f"alter table reservations add constraint unreservable {flaw} not valid"
        )
        try:
            yield
        finally:
            await self._connection.execute("alter table reservations drop constraint unreservable")

    @asynccontextmanager
    async def running_request(self, user_id: str, key: str) -> AsyncIterator[None]:
        """Simulate a request with that key that is in progress while the context lasts."""
        async with self._rolled_back():
            await self.add_unsettled_key(user_id, key)
            yield

    @asynccontextmanager
    async def locked(self, order: dict[str, Any]) -> AsyncIterator[None]:
        """Hold a lock on the order while the context lasts."""
        async with self._rolled_back():
            await self._connection.execute(
                "select from orders where id = $1 for update", order["id"]
            )
            yield

    @asynccontextmanager
    async def _rolled_back(self) -> AsyncIterator[None]:
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            yield
        finally:
            await transaction.rollback()
