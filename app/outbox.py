"""The relay: the only sender. It carries committed events from the outbox to their topics.

One worker relays at a time: it holds PostgreSQL's advisory lock on a connection of its own, and the
lock ends with that connection. An event is marked only after the broker (acks=all)
has acknowledged it, and an order's next event is sent only after its last, so every first copy of
an event is in sequence; a crash between the two makes a second copy, which the agents recognise.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.db import AWAY, Database, Transaction, sql
from app.metrics import PUBLISHED
from app.times import rfc3339

log = logging.getLogger(__name__)

BATCH = 1000
SWEEP_SECONDS = 1.0
"""How long an event may wait whose commit was not heard of: its worker died before telling."""

HEADER_NAMES = (
    "ce_id",
    "ce_source",
    "ce_specversion",
    "ce_type",
    "ce_subject",
    "ce_time",
    "content-type",
    "traceparent",
    "x-request-id",
    "x-event-type",
)


class Relay:
    """Publishes the outbox while this worker leads; else tells the leader of its commits."""

    def __init__(self, brokers: list[str], database: Database) -> None:
        self._brokers = brokers
        self._database = database
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
                async with self._leadership() as connection, self._producer() as producer:
                    delay = 0.1
                    await self._publish_forever(connection, producer)
            except (*AWAY, KafkaError) as error:
                log.warning("The relay waits %.1f s: %r", delay, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5)

    @asynccontextmanager
    async def _leadership(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await self._database.connect(
            command_timeout=10,
            application_name="orders relay",
            # A lost mark costs a second copy, so it need not wait for the disk.
            synchronous_commit="off",
            # A leader whose machine is gone must not keep the lock for hours.
            tcp_keepalives_idle="5",
            tcp_keepalives_interval="2",
            tcp_keepalives_count="3",
        )
        try:
            await _win(connection)
            await connection.add_listener("outbox", lambda *_: self._wake.set())
            self._leading = True
            log.info("This worker relays the outbox")
            yield connection
        finally:
            self._leading = False
            connection.terminate()

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """One of its own: Faust's has a changelog request under way most of the time."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers, acks="all", request_timeout_ms=30_000
        )
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()

    async def _publish_forever(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer
    ) -> None:
        sent: list[int] = []
        while True:
            self._wake.clear()
            rows = await sql.mark_and_take(connection, sent=sent, batch=BATCH)
            sent = await self._send(producer, rows) if rows else []
            if not sent:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), SWEEP_SECONDS)

    async def _send(self, producer: AIOKafkaProducer, rows: Sequence[Any]) -> list[int]:
        """Send the first event of each order, and wait; the ids of those acknowledged.

        Raises KafkaError when none was.
        """
        first: dict[UUID, Any] = {}
        for row in rows:
            first.setdefault(row["order_id"], row)
        results = await _acknowledged(producer, list(first.values()))
        sent = [row for row, error in results if error is None]
        for row in sent:
            PUBLISHED.labels(row["topic"]).inc()
        errors = [error for _, error in results if error is not None]
        if errors and not sent:
            raise errors[0]
        return [row["id"] for row in sent]


async def _win(connection: asyncpg.Connection) -> None:
    """Ask for the lead until it is ours.

    Waiting for it inside a statement would hold a snapshot, and with it every dead row.
    """
    while True:
        if await sql.try_to_lead(connection):
            return
        await asyncio.sleep(SWEEP_SECONDS)


async def _acknowledged(
    producer: AIOKafkaProducer, rows: Sequence[Any]
) -> list[tuple[Any, BaseException | None]]:
    """Send the rows' events; each row with the error that kept it from being acknowledged."""
    acks = [
        await producer.send(
            topic=row["topic"],
            key=str(row["order_id"]).encode(),
            value=row["payload"].encode(),
            headers=headers_of(row),
        )
        for row in rows
    ]
    results = await asyncio.gather(*acks, return_exceptions=True)
    errors = [result if isinstance(result, BaseException) else None for result in results]
    return list(zip(rows, errors, strict=True))


def headers_of(row: Any) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 in binary mode, and the trace.

    The trace id is a hash of the request id, so that every event a request causes is one trace.
    """
    trace = UUID(bytes=sha256(row["request_id"].encode()).digest()[:16]).hex
    span = row["event_id"].hex[:16]
    values = (
        str(row["event_id"]),
        "/orders",
        "1.0",
        row["topic"],
        str(row["order_id"]),
        rfc3339(row["occurred_at"]),
        "application/json",
        f"00-{trace}-{span}-01",
        row["request_id"],
        row["topic"],
    )
    return [(name, value.encode()) for name, value in zip(HEADER_NAMES, values, strict=True)]
