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
from functools import lru_cache, partial
from typing import Any, cast
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from app.admission_control import RELAYED, Admission
from app.crashes import Point, crash_here
from app.db import AWAY, FEW_ROWS, Database
from app.in_flight import InFlight
from app.kafka.faust_app import MAX_BATCH
from app.leadership import leadership
from app.metrics import REFUSED
from app.outbox_rows import LOOK, as_row, decode_notice, encode_notice
from app.queries import sql
from app.text import storable
from app.timeouts import move_on_after
from app.times import now, parse_time
from app.topics import topic_names
from app.transaction import OutboxRow, Transaction

log = logging.getLogger(__name__)

RELAY = "relay"
"""What parked messages and crash points call it."""
BATCH = 1000
GATHER_SECONDS = 0.005
"""Between sends, and between looks into the outbox. What is committed meanwhile goes along, and
saves all hops behind it work."""
MARK_SECONDS = 0.1
"""How long what is acknowledged may stay unmarked: whoever leads next sends it once more."""
SWEEP_SECONDS = 1.0
"""How long an event may wait whose commit was not heard of: its worker died before telling."""

SILENT_SECONDS = 30.0
"""How long a leader may fail to send anything before another worker, or another producer, tries."""
STOP_SECONDS, LAST_MARK_SECONDS = 5.0, 1.0

SETTINGS = {**FEW_ROWS, "synchronous_commit": "off"}
"""A mark that is lost costs a second copy, so it need not wait for the disk."""

for _topic in topic_names():
    REFUSED.labels(_topic)  # shown as 0 from the start, so that an alert sees the first rise


class _CannotSend(Exception):
    """Raised by a leader of whose events the broker acknowledges none."""


class Relay:
    """Publishes the outbox while this worker leads; else tells the leader of its commits."""

    def __init__(
        self, brokers: list[str], database: Database, admission: Admission | None = None
    ) -> None:
        self._brokers = brokers
        self._database = database
        self._admission = admission or Admission()
        self._wake = asyncio.Event()
        self._in_flight: InFlight | None = None
        """While this worker leads."""
        self._committed: list[OutboxRow] = []
        """What is surely committed and not sent yet; where another worker leads, not told yet."""
        self._following: asyncio.TimerHandle | None = None
        self._followed = 0.0
        """When it last sent what it had committed; seconds of the loop's clock."""
        self._marking: asyncio.TimerHandle | None = None
        self._is_unsure = False
        """Whether the leader is to look for what may be committed."""
        self._telling: asyncio.Task[None] | None = None

    async def after_commit(self, transaction: Transaction) -> None:
        """Send its events, or tell whoever relays, without waiting for it."""
        if not transaction.events:
            return
        if not transaction.is_committed:
            self._is_unsure = True
        else:
            self._committed += transaction.written
        if self._in_flight is not None:
            self._follow_soon()
        elif self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    def _follow_soon(self) -> None:
        if self._is_unsure:
            self._is_unsure = False
            self._wake.set()
        if self._committed and self._following is None:
            loop = asyncio.get_running_loop()
            self._following = loop.call_at(self._followed + GATHER_SECONDS, self._follow_now)

    def _follow_now(self) -> None:
        self._following = None
        self._followed = asyncio.get_running_loop().time()
        committed, self._committed = self._committed, []
        crash_here(Point.TAKEN, RELAY)
        if self._in_flight is not None and not self._in_flight.follow(committed):
            self._wake.set()

    async def _tell(self) -> None:
        """Tell the leader, while that is another; what it does not hear of, it looks for."""
        with suppress(*AWAY):
            while self._in_flight is None and (self._committed or self._is_unsure):
                told = [encode_notice(row) for row in self._committed]
                if self._is_unsure:
                    told.append(LOOK)
                self._committed, self._is_unsure = [], False
                async with self._database.connection() as connection:
                    await sql.tell_relay(connection, told=told)

    def _hear(self, *notification: Any) -> None:
        """What another worker has told."""
        told = notification[-1]
        if told == LOOK:
            self._wake.set()
        else:
            self._committed.append(decode_notice(told))
            self._follow_soon()

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
            await connection.add_listener("outbox", self._hear)
            log.info("This worker relays the outbox")
            yield connection

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """One of its own: Faust's has a changelog request under way most of the time."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers,
            acks="all",
            request_timeout_ms=30_000,
            max_batch_size=MAX_BATCH,
        )
        try:
            await producer.start()
            yield producer
        finally:
            await _stop(producer)

    async def _publish_forever(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer
    ) -> None:
        partition_of = partial(_partition_of, producer)
        in_flight = self._in_flight = InFlight(producer, partition_of, self._mark_soon)
        self._wake.set()
        self._follow_soon()
        loop, looked = asyncio.get_running_loop(), 0.0
        try:
            while True:
                async with move_on_after(SWEEP_SECONDS):
                    await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(looked + GATHER_SECONDS - loop.time())
                looked = loop.time()
                await self._look(connection, in_flight)
                if in_flight.silent_seconds > SILENT_SECONDS:
                    raise _CannotSend(f"nothing was acknowledged for {SILENT_SECONDS:.0f} s")
        finally:
            self._in_flight = None
            in_flight.abandon()
            with suppress(*AWAY):
                await asyncio.wait_for(
                    _mark_and_take(connection, in_flight, [], 0), LAST_MARK_SECONDS
                )

    def _mark_soon(self) -> None:
        """What has landed is marked within MARK_SECONDS, together with what lands meanwhile."""
        if self._marking is None:
            self._marking = asyncio.get_running_loop().call_later(MARK_SECONDS, self._mark_now)

    def _mark_now(self) -> None:
        self._marking = None
        self._wake.set()

    async def _look(self, connection: asyncpg.Connection, in_flight: InFlight) -> None:
        """Note what has landed, and send what was not heard of."""
        while in_flight.refused:
            await _park(connection, *in_flight.refused.pop(0))
        if in_flight.failed:
            log.warning("%d events are sent later: %r", len(in_flight.failed), in_flight.failed[0])
            in_flight.failed.clear()
        held = in_flight.held()
        limit = min(BATCH, in_flight.room)
        rows = await _mark_and_take(connection, in_flight, held, limit)
        if rows:
            if len(rows) == limit:
                self._wake.set()  # there may be more
            crash_here(Point.TAKEN, RELAY)
            # What waits for the broker is no sign of too many orders.
            if not in_flight.are_held_up:
                moment = parse_time(rows[0].occurred_at).timestamp()
                self._admission.note(RELAY, moment, RELAYED)
        in_flight.send(rows)


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), STOP_SECONDS)
    except TimeoutError:
        # It flushes first, without an end where its metadata task has died. What it has not closed
        # by then would run on, and send, for ever.
        await cast(Any, producer)._sender.close()
        await producer.client.close()


_hash = lru_cache(maxsize=16_384)(murmur2)


def _partition_of(producer: AIOKafkaProducer, row: OutboxRow) -> int | None:
    """Kafka's own choice for the order's id, as far as `producer` knows the topic."""
    partitions = cast(Any, producer).client.cluster.partitions_for_topic(row.topic)
    if not partitions:
        return None
    return (int(_hash(str(row.order_id).encode())) & 0x7FFFFFFF) % len(partitions)


async def _mark_and_take(
    connection: asyncpg.Connection, in_flight: InFlight, held: Sequence[UUID], batch: int
) -> list[OutboxRow]:
    sent = list(in_flight.acknowledged.values())
    if sent:
        crash_here(Point.SENT, RELAY)
    times = [row.occurred_at for row in sent]
    rows = await sql.mark_and_take(
        connection,
        sent_orders=[row.order_id for row in sent],
        sent_sequences=[row.sequence for row in sent],
        since=min(times, default=None),
        until=max(times, default=None),
        held=held,
        batch=batch,
    )
    in_flight.marked(sent)
    return [as_row(row) for row in rows]


async def _park(connection: asyncpg.Connection, row: OutboxRow, error: BaseException) -> None:
    """Put an event aside that the broker refuses for good: it waits for an operator."""
    extra = {"request_id": row.request_id}
    log.error("The broker refuses %s of order %s: %r", row.topic, row.order_id, error, extra=extra)
    REFUSED.labels(row.topic).inc()
    crash_here(Point.REFUSED, RELAY)
    await sql.park_refused(
        connection,
        order_id=row.order_id,
        sequence=row.sequence,
        occurred_at=row.occurred_at,
        error=storable(f"{type(error).__name__}: {error}"[:500]),
        now=now(),
    )
    crash_here(Point.PARKED, RELAY)
