"""Carry events to Kafka as the service's relay does: send them once committed, then mark them."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from bench.bare.events import Event, headers
from bench.bare.statements import Statements

MARK_SECONDS = 0.1


class Relay:
    """Sends events until cancelled; an order's next event waits until its last is acknowledged."""

    def __init__(
        self, statements: Statements, connection: asyncpg.Connection, producer: AIOKafkaProducer
    ) -> None:
        self._sql = statements
        self._connection = connection
        self._producer = producer
        self._committed: asyncio.Queue[Event] = asyncio.Queue()
        self._behind: dict[str, list[Event]] = {}
        """The events that wait behind one in flight, by order."""
        self._sent: list[Event] = []
        self._marking = asyncio.Lock()

    def carry(self, events: Sequence[Event]) -> None:
        """Queue events that have been committed."""
        for event in events:
            self._committed.put_nowait(event)

    async def run(self) -> None:
        """Send and mark until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._mark_regularly())

    async def _send(self) -> None:
        while True:
            event = await self._committed.get()
            if event.order_id in self._behind:
                self._behind[event.order_id].append(event)
                continue
            self._behind[event.order_id] = []
            acknowledged = await self._producer.send(
                event.topic,
                event.payload.encode(),
                event.order_id.encode(),
                headers=headers(event),
            )
            acknowledged.add_done_callback(partial(self._note, event))

    def _note(self, event: Event, acknowledged: "asyncio.Future[Any]") -> None:
        if not acknowledged.cancelled():
            acknowledged.result()
            self._sent.append(event)
            self.carry(self._behind.pop(event.order_id))

    async def _mark_regularly(self) -> None:
        while True:
            await asyncio.sleep(MARK_SECONDS)
            await self.mark()

    async def mark(self) -> None:
        """Mark the acknowledged events as published."""
        async with self._marking:
            sent, self._sent = self._sent, []
            await self._sql.fetch(
                self._connection,
                "mark_and_take",
                sent_orders=[event.order_id for event in sent],
                sent_sequences=[event.sequence for event in sent],
                sent_times=[event.occurred_at for event in sent],
                excluded=[],
                batch=0,
            )
