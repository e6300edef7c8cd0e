"""Events in flight to the broker: one per order at a time, independently of other orders.

While the broker is unavailable, or a partition cannot be written, the orders concerned back off for
growing times, and the others go on. Events that the broker refuses for good are reported.
"""

import asyncio
import re
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import islice
from time import monotonic
from typing import NamedTuple
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTopicError

from app.db.rows import OutboxRow
from app.kafka.producing import TOO_LARGE, Sent, begin_send
from app.metrics import PUBLISHED
from app.outbox.rows import headers_of
from app.outbox.silence import Destination, Silence

MAX_IN_FLIGHT = 5000
"""The most events in flight."""
MAX_PER_PARTITION = 500
"""The most of them to one partition: one that cannot be written leaves room for the others."""
MAX_KNOWN = 50_000
"""The most orders whose last acknowledged sequence is remembered. The next events of other orders
are found in the outbox."""
MIN_BACKOFF, MAX_BACKOFF = 0.5, 30.0
"""The backoff of an order whose event could not be sent, in seconds; doubled each time."""

REFUSALS = (InvalidTopicError, *TOO_LARGE, UnicodeError)
"""Errors of an event that can never be sent as it is."""

TOPIC = re.compile("[a-zA-Z0-9._-]{1,249}")
"""The topic names that Kafka allows."""


class Sending(NamedTuple):
    """An event in flight: sent and not answered."""

    row: OutboxRow
    destination: Destination
    begun: float
    """When it was sent, in seconds of `monotonic`."""
    sent: Sent


class Backoff(NamedTuple):
    """An order's backoff: when it ends (seconds of `monotonic`), and its length in seconds."""

    until: float
    seconds: float


class InFlight:
    """The events in flight through one producer, results of others, and orders in backoff."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        partition_of: Callable[[str, UUID], int | None],
        on_result: Callable[[], None],
    ) -> None:
        """`partition_of` returns None for a topic that the producer does not know yet.

        `on_result` is called whenever an event was acknowledged, was refused or has failed.
        """
        self._producer = producer
        self._partition_of = partition_of
        self._on_result = on_result
        self._per_partition: Counter[Destination] = Counter()
        """The number of events in flight by topic and partition."""
        self._sending: dict[UUID, Sending] = {}
        """The event in flight by order."""
        self._behind: dict[UUID, deque[OutboxRow]] = {}
        """The next events of orders that have one in flight, by order."""
        self._known: dict[UUID, int] = {}
        """The sequence of the last acknowledged event by order, the latest at the end."""
        self._backoffs: dict[UUID, Backoff] = {}
        """The backoff by order."""
        self.acknowledged: dict[tuple[UUID, int], OutboxRow] = {}
        """The acknowledged events that are not marked yet, by order and sequence."""
        self.refused: list[tuple[OutboxRow, BaseException]] = []
        """The events that the broker refuses for good and that are not parked yet."""
        self.failed: list[BaseException] = []
        """Why other events could not be sent, for the log."""
        self.silence = Silence()
        """How long the broker has not answered."""

    @property
    def room(self) -> int:
        """How many more events may be in flight."""
        return max(0, MAX_IN_FLIGHT - len(self._sending))

    @property
    def is_held_up(self) -> bool:
        """Whether the broker, or a partition, does not keep up with what is sent."""
        return bool(self._backoffs) or self.silence.seconds > MIN_BACKOFF

    def excluded(self) -> list[UUID]:
        """Return the orders of which nothing may be sent yet."""
        now = monotonic()
        backing_off = [
            order_id for order_id, backoff in self._backoffs.items() if backoff.until > now
        ]
        return [*backing_off, *self._sending]

    def send_committed(self, rows: Iterable[OutboxRow]) -> bool:
        """Send events that were just committed; return False if the outbox must be read for some.

        An event is sent only if the order's previous one is known to be sent: otherwise an earlier
        event, committed by another worker, may be waiting in the outbox.
        """
        results = [self._send_or_queue(row) for row in rows]
        return all(results)

    def _send_or_queue(self, row: OutboxRow) -> bool:
        """Return False if the outbox must be read for the event, or for one before it."""
        order_id = row.order_id
        if sending := self._sending.get(order_id):
            behind = self._behind.get(order_id)
            last = (behind[-1] if behind else sending.row).sequence
            if row.sequence == last + 1:
                self._queue(row)
            return row.sequence <= last + 1
        known = self._known.get(order_id, 0)
        if row.sequence <= known or order_id in self._backoffs:
            return True
        if row.sequence != known + 1 or self.room <= 0:
            return False
        self._begin(row)
        return True

    def _queue(self, row: OutboxRow) -> None:
        self._behind.setdefault(row.order_id, deque()).append(row)

    def send(self, rows: Iterable[OutboxRow]) -> None:
        """Send outbox rows, each order's in sequence, except those in flight or acknowledged."""
        taken: set[UUID] = set()
        for row in rows:
            if (row.order_id, row.sequence) in self.acknowledged:
                continue
            if row.order_id in taken:
                if row.order_id in self._sending:
                    self._queue(row)
            elif row.order_id not in self._sending:
                taken.add(row.order_id)
                self._begin(row)

    def _begin(self, row: OutboxRow) -> bool:
        """Send the event; if its partition has no room, back off and return False."""
        destination = row.topic, self._partition_of(row.topic, row.order_id)
        if self._per_partition[destination] >= MAX_PER_PARTITION:
            self._back_off(row.order_id)
            return False
        begun = monotonic()
        self.silence.sent(destination)
        sent = self._send(row, destination[1])
        self._sending[row.order_id] = sending = Sending(row, destination, begun, sent)
        self._per_partition[destination] += 1
        sent.add_done_callback(partial(self._finish, sending))
        return True

    def _send(self, row: OutboxRow, partition: int | None) -> Sent:
        """Send the event; return a future for the broker's acknowledgement, or the error."""
        try:
            # aiokafka would wait for such a topic to appear.
            if TOPIC.fullmatch(row.topic) is None:
                raise InvalidTopicError(row.topic)
            send = partial(
                self._producer.send,
                topic=row.topic,
                key=str(row.order_id).encode(),
                value=row.payload,
                partition=partition,
                headers=headers_of(row),
            )
            return begin_send(send)
        except Exception as error:
            failed: Sent = asyncio.get_running_loop().create_future()
            failed.set_exception(error.with_traceback(None))
            return failed

    def _finish(self, sending: Sending, sent: Sent) -> None:
        if sent.cancelled():
            return
        del self._sending[sending.row.order_id]
        self._per_partition[sending.destination] -= 1
        error = sent.exception()
        if error is None:
            self._acknowledge(sending)
            self._end_silence(sending.destination)
        elif isinstance(error, REFUSALS):
            self._refuse(sending, error)
            self._end_silence(sending.destination)
        else:
            self._fail(sending, error)
        self._on_result()

    def _end_silence(self, destination: Destination) -> None:
        more, more_there = bool(self._sending), self._per_partition[destination] > 0
        self.silence.answered(destination, more=more, more_there=more_there)

    def _acknowledge(self, sending: Sending) -> None:
        row = sending.row
        self.silence.acknowledged()
        has_room_again = self._per_partition[sending.destination] == MAX_PER_PARTITION - 1
        if self.silence.ends_failure(sending.begun) or has_room_again:
            # Whatever others back off for is over, too.
            self._backoffs.clear()
            self.silence.forgive()
        self._backoffs.pop(row.order_id, None)
        self.acknowledged[row.order_id, row.sequence] = row
        known = self._known.pop(row.order_id, 0)
        self._known[row.order_id] = max(known, row.sequence)
        behind = self._behind.get(row.order_id)
        if not behind or not self._begin(behind.popleft()):
            self._behind.pop(row.order_id, None)

    def _refuse(self, sending: Sending, error: BaseException) -> None:
        self._behind.pop(sending.row.order_id, None)
        self._backoffs.pop(sending.row.order_id, None)
        self.refused.append((sending.row, error))

    def _fail(self, sending: Sending, error: BaseException) -> None:
        self._behind.pop(sending.row.order_id, None)
        self.silence.failed(sending.begun)
        self._back_off(sending.row.order_id)
        self.failed.append(error)

    def _back_off(self, order_id: UUID) -> None:
        last = self._backoffs.get(order_id)
        seconds = min(last.seconds * 2, MAX_BACKOFF) if last else MIN_BACKOFF
        self._backoffs[order_id] = Backoff(monotonic() + seconds, seconds)

    def marked(self, rows: Collection[OutboxRow]) -> None:
        """Count and forget events that are marked; forget the oldest orders beyond MAX_KNOWN."""
        for row in rows:
            del self.acknowledged[row.order_id, row.sequence]
        for topic, count in Counter(row.topic for row in rows).items():
            PUBLISHED.labels(topic).inc(count)
        for order_id in list(islice(self._known, max(0, len(self._known) - MAX_KNOWN))):
            del self._known[order_id]

    def abandon(self) -> None:
        """Cancel all sends in flight. Their events are not marked, so they are sent again."""
        self._behind.clear()
        for sending in self._sending.values():
            sending.sent.cancel()
