"""The relay: publishes committed events from the outbox to their topics, as their only sender.

One worker relays at a time, the leader: it holds a PostgreSQL advisory lock on a connection of its
own, and the lock ends with that connection. An event is marked as published only after the broker
(acks=all) has acknowledged it, and an order's next event is sent only after its previous one is
acknowledged, so the first copies of an order's events are in sequence. A crash between
acknowledgement and mark makes a duplicate, which the agents recognise. An event that the broker
refuses for good is parked, and its order waits; all other orders go on.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.crashes import Point, crash_here
from app.db.errors import AWAY
from app.db.leadership import leadership
from app.db.pools import FEW_ROWS, Database
from app.db.queries import sql
from app.db.rows import OutboxRow
from app.db.transaction import Transaction
from app.kafka import producing
from app.kafka.broker_access import METADATA_SECONDS, Brokers
from app.outbox.in_flight import InFlight
from app.outbox.marks import mark_and_take, park
from app.outbox.rows import LOOK, RELAY, decode_from_notify, encode_for_notify
from app.resilience.admission_control import RELAYED, Admission
from app.resilience.timeouts import move_on_after, retry_delays
from app.times import parse_time

log = logging.getLogger(__name__)

BATCH = 1000
"""The most events taken from the outbox at once."""
GATHER_SECONDS = 0.005
"""The least time between sends, and between reads of the outbox.

Events that are committed meanwhile are sent in the same batch, which saves work in all later hops.
"""
MARK_SECONDS = 0.1
"""How long an acknowledged event may stay unmarked. The next leader would send it again."""
LOOK_SECONDS = 1.0
"""The longest time between reads of the outbox, which find the events of workers that died before
they could notify the leader. Also how often the others try to take the lead."""

SILENT_SECONDS = 30.0
"""How long a leader may send without an acknowledgement. It then gives up the lead, so that another
worker, or a new producer, tries."""
STUCK_SECONDS = 600.0
"""The same for one partition: another worker may reach its broker. Mostly nobody can write it, and
giving up the lead delays all others."""
LAST_MARK_SECONDS = 1.0
"""How long marking what is acknowledged may take when the lead ends."""

SETTINGS = {**FEW_ROWS, "synchronous_commit": "off", "idle_session_timeout": "10s"}
"""A lost mark costs no more than a duplicate, so marking need not wait for the disk. A leader that
stands still, and does not look for so long, loses the lead."""


class _CannotSend(Exception):
    """Raised by a leader when the broker acknowledges none of its events."""


class Relay:
    """Publishes the outbox while this worker leads; otherwise notifies the leader of commits."""

    def __init__(self, brokers: Brokers, database: Database, admission: Admission) -> None:
        self._brokers = brokers
        self._database = database
        self._admission = admission
        self._wake = asyncio.Event()
        self._in_flight: InFlight | None = None
        """Set while this worker leads."""
        self._committed: list[OutboxRow] = []
        """Committed events to be sent or, if another worker leads, to notify it of."""
        self._sending: asyncio.TimerHandle | None = None
        """The timer that sends them."""
        self._last_sent = 0.0
        """When they were last sent, in seconds of the loop's clock."""
        self._marking: asyncio.TimerHandle | None = None
        """The timer that has acknowledged events marked."""
        self._is_unsure = False
        """Whether the leader has to read the outbox for events whose commit is uncertain."""
        self._telling: asyncio.Task[None] | None = None

    async def after_commit(self, transaction: Transaction) -> None:
        """Have the transaction's events sent, here or by the leader, without waiting for it."""
        if not transaction.events:
            return
        if not transaction.is_committed:
            self._is_unsure = True
        else:
            self._committed += transaction.written
        if self._in_flight is not None:
            self._send_committed_soon()
        elif self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    def _send_committed_soon(self) -> None:
        if self._is_unsure:
            self._is_unsure = False
            self._wake.set()
        if self._committed and self._sending is None:
            loop = asyncio.get_running_loop()
            self._sending = loop.call_at(self._last_sent + GATHER_SECONDS, self._send_committed)

    def _send_committed(self) -> None:
        self._sending = None
        self._last_sent = asyncio.get_running_loop().time()
        committed, self._committed = self._committed, []
        crash_here(Point.TAKEN, RELAY)
        if self._in_flight is not None and not self._in_flight.send_committed(committed):
            self._wake.set()

    async def _tell(self) -> None:
        """Notify the leader, while it is another worker; without that, it reads the outbox."""
        with suppress(*AWAY):
            while self._in_flight is None and (self._committed or self._is_unsure):
                payloads = [encode_for_notify(row) for row in self._committed]
                if self._is_unsure:
                    payloads.append(LOOK)
                self._committed, self._is_unsure = [], False
                async with self._database.connection() as connection:
                    await sql.tell_relay(connection, payloads=payloads)

    def _hear(self, *notification: Any) -> None:
        """Handle a notification of another worker."""
        payload = notification[-1]
        if payload == LOOK:
            self._wake.set()
        else:
            self._committed.append(decode_from_notify(payload))
            self._send_committed_soon()

    async def run(self) -> None:
        """Relay until cancelled; retry with a backoff while PostgreSQL or Kafka is unavailable."""
        delays = retry_delays()
        while True:
            try:
                # The producer comes first, so that a worker that cannot reach the broker does not
                # lead; and the lead ends before the producer stops, which may take long.
                async with self._producer() as producer, self._leadership() as connection:
                    delays = retry_delays()
                    await producing.learn_leaders(producer)
                    await self._publish_forever(connection, producer)
            except _CannotSend as error:
                log.warning("This worker gives up the lead: %s", error)
                # Others try to take the lead each second, and may be able to send.
                await asyncio.sleep(2 * LOOK_SECONDS)
            except (*AWAY, KafkaError) as error:
                delay = next(delays)
                log.warning("The relay waits %.1f s: %r", delay, error)
                await asyncio.sleep(delay)

    @asynccontextmanager
    async def _leadership(self) -> AsyncIterator[asyncpg.Connection]:
        async with leadership(
            self._database, sql.try_to_lead, LOOK_SECONDS, "orders relay", **SETTINGS
        ) as connection:
            await connection.add_listener("outbox", self._hear)
            log.info("This worker relays the outbox")
            yield connection

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """Start a producer for the relay; Faust's usually has a changelog request in flight."""
        producer = AIOKafkaProducer(
            **self._brokers.client_arguments(),
            acks="all",
            request_timeout_ms=30_000,
            metadata_max_age_ms=METADATA_SECONDS * 1000,
            max_batch_size=producing.MAX_BATCH,
        )
        try:
            await producer.start()
            yield producer
        finally:
            await producing.stop(producer)

    async def _publish_forever(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer
    ) -> None:
        partition_of = partial(producing.partition_of, producer)
        in_flight = self._in_flight = InFlight(producer, partition_of, self._mark_soon)
        self._wake.set()
        self._send_committed_soon()
        loop, looked = asyncio.get_running_loop(), 0.0
        try:
            while True:
                async with move_on_after(LOOK_SECONDS):
                    await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(looked + GATHER_SECONDS - loop.time())
                looked = loop.time()
                await self._look(connection, in_flight)
                _check(producer, in_flight)
        finally:
            self._in_flight = None
            in_flight.abandon()
            with suppress(*AWAY):
                await asyncio.wait_for(
                    mark_and_take(connection, in_flight, [], 0), LAST_MARK_SECONDS
                )

    def _mark_soon(self) -> None:
        """Have events marked after MARK_SECONDS, together with those acknowledged meanwhile."""
        if self._marking is None:
            self._marking = asyncio.get_running_loop().call_later(MARK_SECONDS, self._mark_now)

    def _mark_now(self) -> None:
        self._marking = None
        self._wake.set()

    async def _look(self, connection: asyncpg.Connection, in_flight: InFlight) -> None:
        """Mark and park what has been answered, and send what waits in the outbox."""
        while in_flight.refused:
            await park(connection, *in_flight.refused.pop(0))
        if in_flight.failed:
            log.warning("%d events are sent later: %r", len(in_flight.failed), in_flight.failed[0])
            in_flight.failed.clear()
        excluded = in_flight.excluded()
        limit = min(BATCH, in_flight.room)
        rows = await mark_and_take(connection, in_flight, excluded, limit)
        if rows:
            if len(rows) == limit:
                self._wake.set()  # there may be more
            crash_here(Point.TAKEN, RELAY)
            # Events that wait for the broker are no sign of too many orders.
            if not in_flight.is_held_up:
                moment = parse_time(rows[0].occurred_at).timestamp()
                self._admission.note(RELAY, moment, RELAYED)
        in_flight.send(rows)


def _check(producer: AIOKafkaProducer, in_flight: InFlight) -> None:
    """Raise _CannotSend if another worker, or another producer, may be able to send."""
    if in_flight.silence.seconds > SILENT_SECONDS:
        raise _CannotSend(f"nothing was acknowledged for {SILENT_SECONDS:.0f} s")
    if in_flight.silence.seconds_of_a_partition > STUCK_SECONDS:
        raise _CannotSend(f"a partition acknowledged nothing for {STUCK_SECONDS:.0f} s")
    if producing.has_ended(producer):
        raise _CannotSend("a task of the producer has ended")
