"""Read what PostgreSQL holds."""

from typing import Any

import asyncpg

_TRACES = """
    select
        (select count(*) from orders where user_id = $1::uuid) as orders,
        (select count(*) from idempotency_keys where user_id = $1::uuid) as keys,
        (select count(*) from outbox where payload::text like '%' || $1::text || '%') as events,
        (select count(*) from payments join orders o on o.id = order_id where user_id = $1::uuid)
            as payments
"""


class Records:
    """Queries that only read."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def traces_of(self, user_id: str) -> dict[str, int]:
        """Return how many orders, keys and payments the user has, and events that name the user."""
        return dict(await self._connection.fetchrow(_TRACES, user_id))

    async def payments(self, order: dict[str, Any]) -> list[str]:
        """Return the status of each of the order's payments, oldest first."""
        query = "select status from payments where order_id = $1 order by created_at"
        return [row["status"] for row in await self._connection.fetch(query, order["id"])]

    async def events(self, order: dict[str, Any]) -> list[str]:
        """Return the topics of the order's events, in sequence."""
        query = "select topic from outbox where order_id = $1 order by sequence"
        return [row["topic"] for row in await self._connection.fetch(query, order["id"])]

    async def user(self, email: str) -> asyncpg.Record | None:
        """Return the account with that email."""
        return await self._connection.fetchrow("select * from users where email = $1", email)

    async def user_exists(self, user_id: str) -> bool:
        """Return whether an account with that id exists."""
        query = "select exists (select from users where id = $1)"
        return bool(await self._connection.fetchval(query, user_id))

    async def parked(self, order: dict[str, Any]) -> list[tuple[str, str, int, int]]:
        """Return handler, topic, partition and offset of the order's parked messages."""
        rows = await self._connection.fetch(
            'select handler, topic, partition, "offset" from parked_messages'
            " where order_id = $1 order by handler",
            order["id"],
        )
        return [tuple(row) for row in rows]
