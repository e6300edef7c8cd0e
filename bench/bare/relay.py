"""The outbox, carried to Kafka as the service's relay does it: first events first, then marked."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from bench.bare.events import headers
from bench.bare.statements import Statements

BATCH = 1000
SWEEP_SECONDS = 1.0


class Relay:
    """Publishes until cancelled; `wake` tells it of a commit."""

    def __init__(
        self, statements: Statements, connection: asyncpg.Connection, producer: AIOKafkaProducer
    ) -> None:
        self._sql = statements
        self._connection = connection
        self._producer = producer
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Something was committed."""
        self._awake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        sent: list[Any] = []
        while True:
            self._awake.clear()
            sent = await self._send(await self._mark_and_take(sent))
            if not sent:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), SWEEP_SECONDS)

    async def _mark_and_take(self, sent: list[Any]) -> list[Any]:
        times = [row["occurred_at"] for row in sent]
        return await self._sql.fetch(
            self._connection,
            "mark_and_take",
            sent=[row["id"] for row in sent],
            since=min(times, default=None),
            until=max(times, default=None),
            held=[],
            batch=BATCH,
        )

    async def _send(self, rows: list[Any]) -> list[Any]:
        """The first event of each order."""
        first: dict[Any, Any] = {}
        for row in rows:
            first.setdefault(row["order_id"], row)
        acknowledged = [
            await self._producer.send(
                row["topic"],
                row["payload"].encode(),
                str(row["order_id"]).encode(),
                headers=headers(row),
            )
            for row in first.values()
        ]
        await asyncio.gather(*acknowledged)
        return list(first.values())
