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

from app.kafka.producing import TOO_LARGE, Sent, begin
from app.metrics import PUBLISHED
from app.outbox_rows import headers_of
from app.rows import OutboxRow

MAX_UNDER_WAY = 5000
"""The most events in flight."""
MAX_OF_A_PARTITION = 500
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

Destination = tuple[str, int | None]
"""A topic and its partition, None if that is not known."""


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
        self._to: Counter[Destination] = Counter()
        """The number of events in flight by topic and partition."""
        self._under_way: dict[UUID, Sending] = {}
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
        self._heard = monotonic()
        """When the broker last acknowledged an event."""
        self._failed: float | None = None
        """When an event last failed with nothing acknowledged since it was sent."""
        self._unheard_since: float | None = None
        """Since when events have been sent without an acknowledgement; None if none are waiting."""
        self._unheard_of: dict[Destination, float] = {}
        """The same by partition."""

    @property
    def room(self) -> int:
        """How many more events may be in flight."""
        return max(0, MAX_UNDER_WAY - len(self._under_way))

    @property
    def silent_seconds(self) -> float:
        """How long events have been sent without any acknowledgement, whether they fail or hang."""
        return 0.0 if self._unheard_since is None else monotonic() - self._unheard_since

    @property
    def stuck_seconds(self) -> float:
        """How long one of the partitions has been sent events without any acknowledgement."""
        return monotonic() - min(self._unheard_of.values()) if self._unheard_of else 0.0

    @property
    def are_held_up(self) -> bool:
        """Whether the broker, or a partition, does not keep up with what is sent."""
        return bool(self._backoffs) or self.silent_seconds > MIN_BACKOFF

    def excluded(self) -> list[UUID]:
        """Return the orders of which nothing may be sent yet."""
        now = monotonic()
        backing_off = [
            order_id for order_id, backoff in self._backoffs.items() if backoff.until > now
        ]
        return [*backing_off, *self._under_way]

    def follow(self, rows: Iterable[OutboxRow]) -> bool:
        """Send events that were just committed; return False if the outbox must be read for some.

        An event is sent only if the order's previous one is known to be sent: otherwise an earlier
        event, committed by another worker, may be waiting in the outbox.
        """
        follows = [self._follows(row) for row in rows]
        return all(follows)

    def _follows(self, row: OutboxRow) -> bool:
        order_id = row.order_id
        if sending := self._under_way.get(order_id):
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
                if row.order_id in self._under_way:
                    self._queue(row)
            elif row.order_id not in self._under_way:
                taken.add(row.order_id)
                self._begin(row)

    def _begin(self, row: OutboxRow) -> bool:
        """Send the event; if its partition has no room, back off and return False."""
        destination = row.topic, self._partition_of(row.topic, row.order_id)
        if self._to[destination] >= MAX_OF_A_PARTITION:
            self._back_off(row.order_id)
            return False
        begun = monotonic()
        self._unheard_since = self._unheard_since or begun
        if destination[1] is not None:
            self._unheard_of.setdefault(destination, begun)
        sent = self._send(row, destination[1])
        self._under_way[row.order_id] = sending = Sending(row, destination, begun, sent)
        self._to[destination] += 1
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
            return begin(send)
        except Exception as error:
            failed: Sent = asyncio.get_running_loop().create_future()
            failed.set_exception(error.with_traceback(None))
            return failed

    def _finish(self, sending: Sending, sent: Sent) -> None:
        if sent.cancelled():
            return
        order_id, error = sending.row.order_id, sent.exception()
        del self._under_way[order_id]
        self._to[sending.destination] -= 1
        if error is None:
            self._acknowledge(sending)
        else:
            self._behind.pop(order_id, None)
            if isinstance(error, REFUSALS):
                self._backoffs.pop(order_id, None)
                self.refused.append((sending.row, error))
            else:
                self._fail(sending, error)
        if error is None or isinstance(error, REFUSALS):
            if not self._under_way:
                self._unheard_since = None
            self._unheard_of.pop(sending.destination, None)
            if self._to[sending.destination] and sending.destination[1] is not None:
                self._unheard_of[sending.destination] = monotonic()
        self._on_result()

    def _acknowledge(self, sending: Sending) -> None:
        row = sending.row
        self._heard = self._unheard_since = monotonic()
        is_back = self._failed is not None and sending.begun > self._failed
        has_room_again = self._to[sending.destination] == MAX_OF_A_PARTITION - 1
        if is_back or has_room_again:
            # The broker is back, or the partition has room again: end all backoffs.
            self._backoffs.clear()
            self._failed = None
        self._backoffs.pop(row.order_id, None)
        self.acknowledged[row.order_id, row.sequence] = row
        known = self._known.pop(row.order_id, 0)
        self._known[row.order_id] = max(known, row.sequence)
        behind = self._behind.get(row.order_id)
        if not behind or not self._begin(behind.popleft()):
            self._behind.pop(row.order_id, None)

    def _fail(self, sending: Sending, error: BaseException) -> None:
        if self._heard < sending.begun:
            self._failed = monotonic()
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
        for sending in self._under_way.values():
            sending.sent.cancel()
