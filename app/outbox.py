"""The relay: the only sender. It carries committed events from the outbox to their topics.

One worker relays at a time: it holds PostgreSQL's advisory lock on a connection of its own, and the
lock ends with that connection. An event is marked only after the broker (acks=all)
has acknowledged it, and an order's next event is sent only after its last, so every first copy of
an event is in sequence; a crash between the two makes a second copy, which the agents recognise.
One that the broker refuses for good is parked, and its order waits; all others go on.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, cast

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from app.backlog import RELAYED, Backlog
from app.broker import LARGEST_BATCH
from app.crashes import Point, crash_here
from app.db import AWAY, FEW_ROWS, Database
from app.flights import Flights
from app.leadership import leadership
from app.metrics import REFUSED
from app.queries import sql
from app.text import storable
from app.times import now
from app.topics import topic_names
from app.transaction import Transaction

log = logging.getLogger(__name__)

RELAY = "relay"
"""What parked messages and crash points call it."""
BATCH = 1000
GATHER_SECONDS = 0.005
"""Between rounds. What is committed in that time goes along, and saves all hops behind it work."""
SWEEP_SECONDS = 1.0
"""How long an event may wait whose commit was not heard of: its worker died before telling."""

SILENT_SECONDS = 30.0
"""How long a leader may fail to send anything before another worker, or another producer, tries."""
STOP_SECONDS = 5.0

SETTINGS = {**FEW_ROWS, "synchronous_commit": "off"}
"""A mark that is lost costs a second copy, so it need not wait for the disk."""

for _topic in topic_names():
    REFUSED.labels(_topic)  # shown as 0 from the start, so that an alert sees the first rise


class _CannotSend(Exception):
    """Raised by a leader of whose events the broker acknowledges none."""


class Relay:
    """Publishes the outbox while this worker leads; else tells the leader of its commits."""

    def __init__(
        self, brokers: list[str], database: Database, backlog: Backlog | None = None
    ) -> None:
        self._brokers = brokers
        self._database = database
        self._backlog = backlog or Backlog()
        self._wake = asyncio.Event()
        self._leading = False
        self._untold = False
        self._telling: asyncio.Task[None] | None = None

    async def after_commit(self, transaction: Transaction) -> None:
        """Wake whoever relays, without waiting for it."""
        if not transaction.events:
            return
        if self._leading:
            self._wake.set()
            return
        self._untold = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        with suppress(*AWAY):
            while self._untold:
                self._untold = False
                async with self._database.connection() as connection:
                    await sql.wake_relay(connection)

    async def run(self) -> None:
        """Relay until cancelled; what is away is waited for."""
        delay = 0.1
        while True:
            try:
                # Who has not reached the broker does not ask to lead; the lead ends before the
                # producer, which may take long to stop.
                async with self._producer() as producer, self._leadership() as connection:
                    delay = 0.1
                    await self._publish_forever(connection, producer)
            except _CannotSend as error:
                log.warning("This worker gives up the lead: %s", error)
                # The others ask each second, and one of them may be able to send.
                await asyncio.sleep(2 * SWEEP_SECONDS)
            except (*AWAY, KafkaError) as error:
                log.warning("The relay waits %.1f s: %r", delay, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5)

    @asynccontextmanager
    async def _leadership(self) -> AsyncIterator[asyncpg.Connection]:
        async with leadership(
            self._database, sql.try_to_lead, SWEEP_SECONDS, "orders relay", **SETTINGS
        ) as connection:
            await connection.add_listener("outbox", lambda *_: self._wake.set())
            self._leading = True
            try:
                log.info("This worker relays the outbox")
                yield connection
            finally:
                self._leading = False

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """One of its own: Faust's has a changelog request under way most of the time."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers,
            acks="all",
            request_timeout_ms=30_000,
            max_batch_size=LARGEST_BATCH,
            partitioner=_partition,
        )
        try:
            await producer.start()
            yield producer
        finally:
            await _stop(producer)

    async def _publish_forever(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer
    ) -> None:
        flights = Flights(producer)
        sent: list[Any] = []
        try:
            while True:
                self._wake.clear()
                await asyncio.sleep(GATHER_SECONDS)
                rows = await _mark_and_take(connection, sent, flights)
                # What waits for the broker is no sign of too many orders.
                if rows and not flights.held():
                    self._backlog.note(RELAY, rows[0]["occurred_at"].timestamp(), RELAYED)
                if rows:
                    crash_here(Point.TAKEN, RELAY)
                sent, refused = await flights.send(rows)
                if sent:
                    crash_here(Point.SENT, RELAY)
                for row, error in refused:
                    await _park(connection, row, error)
                if flights.silent_seconds > SILENT_SECONDS:
                    raise _CannotSend(f"nothing was acknowledged for {SILENT_SECONDS:.0f} s")
                if not sent:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), SWEEP_SECONDS)
        finally:
            flights.abandon()


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), STOP_SECONDS)
    except TimeoutError:
        # It flushes first, without an end where its metadata task has died. What it has not closed
        # by then would run on, and send, for ever.
        await cast(Any, producer)._sender.close()
        await producer.client.close()


_hash = lru_cache(maxsize=16_384)(murmur2)


def _partition(key: bytes, partitions: Sequence[int], available: Sequence[int]) -> int:
    """Kafka's own choice for a key; the events of one order have the same."""
    return partitions[(int(_hash(key)) & 0x7FFFFFFF) % len(partitions)]


async def _mark_and_take(
    connection: asyncpg.Connection, sent: Sequence[Any], flights: Flights
) -> Sequence[Any]:
    times = [row["occurred_at"] for row in sent]
    rows: Sequence[Any] = await sql.mark_and_take(
        connection,
        sent=[row["id"] for row in sent],
        since=min(times, default=None),
        until=max(times, default=None),
        held=flights.held(),
        batch=min(BATCH, flights.room),
    )
    return rows


async def _park(connection: asyncpg.Connection, row: Any, error: BaseException) -> None:
    """Put an event aside that the broker refuses for good: it waits for an operator."""
    log.error("The broker refuses %s of order %s: %r", row["topic"], row["order_id"], error)
    REFUSED.labels(row["topic"]).inc()
    crash_here(Point.REFUSED, RELAY)
    await sql.park_refused(
        connection,
        id=row["id"],
        occurred_at=row["occurred_at"],
        error=storable(f"{type(error).__name__}: {error}"[:500]),
        now=now(),
    )
    crash_here(Point.PARKED, RELAY)
