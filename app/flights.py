"""Events on their way to the broker: of an order one at a time, and none waits for another order's.

A broker that is away, and a partition that cannot be written, are waited for: their orders rest for
a growing while, and the others go on. What the broker refuses for good is told.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from hashlib import sha256
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RecordTooLargeError,
)

from app.metrics import PUBLISHED
from app.times import rfc3339

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""How long a round waits for the events it has sent; what takes longer stays under way."""
SHORT_PATIENCE_SECONDS = 0.05
"""The same while older ones are under way: their partition may take no more, and others do."""
MOST_UNDER_WAY = 5000
SHORTEST_REST, LONGEST_REST = 0.5, 30.0
"""Seconds for which an order rests whose event could not be sent; twice as long each time."""

REFUSALS = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RecordTooLargeError,
    UnicodeError,
)
"""The event can never be sent as it is."""

TOPIC = re.compile("[a-zA-Z0-9._-]{1,249}")
"""The names that Kafka allows."""

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


class Rest(NamedTuple):
    """An order's: until when (monotonic seconds), and how long it is."""

    until: float
    seconds: float


class Landed(NamedTuple):
    """Rows whose events were acknowledged, and those that were refused for good, with the error."""

    sent: list[Any]
    refused: list[tuple[Any, BaseException]]


class Flights:
    """The events under way through one producer, and the orders that rest."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._under_way: dict[asyncio.Task[None], Any] = {}
        self._rests: dict[UUID, Rest] = {}
        self._silent = False
        """Whether nothing was acknowledged since sending began to fail."""
        self._unheard_since: float | None = None
        """When the first was sent of the events since which nothing was acknowledged."""

    @property
    def room(self) -> int:
        """How many more may be under way."""
        return MOST_UNDER_WAY - len(self._under_way)

    @property
    def silent_seconds(self) -> float:
        """How long events were sent and none was acknowledged, whether they failed or hang."""
        return 0.0 if self._unheard_since is None else monotonic() - self._unheard_since

    def held(self) -> list[UUID]:
        """The orders of which nothing may be sent yet."""
        now = monotonic()
        resting = [order_id for order_id, rest in self._rests.items() if rest.until > now]
        return [*resting, *(row["order_id"] for row in self._under_way.values())]

    async def send(self, rows: Sequence[Any]) -> Landed:
        """Send the first event of each order; what has landed of all that is under way."""
        first: dict[UUID, Any] = {}
        for row in rows:
            first.setdefault(row["order_id"], row)
        patience = SHORT_PATIENCE_SECONDS if self._under_way else PATIENCE_SECONDS
        begun = {asyncio.create_task(self._send(row)): row for row in first.values()}
        self._under_way |= begun
        if begun:
            self._unheard_since = self._unheard_since or monotonic()
            await asyncio.wait(begun, timeout=patience)
        return self._land()

    async def _send(self, row: Any) -> None:
        # aiokafka waits for such a topic to appear.
        if TOPIC.fullmatch(row["topic"]) is None:
            raise InvalidTopicError(row["topic"])
        acknowledged = await self._producer.send(
            topic=row["topic"],
            key=str(row["order_id"]).encode(),
            value=row["payload"].encode(),
            headers=headers_of(row),
        )
        await acknowledged

    def _land(self) -> Landed:
        landed = Landed([], [])
        failed: list[tuple[Any, BaseException]] = []
        for task in [task for task in self._under_way if task.done()]:
            row, error = self._under_way.pop(task), task.exception()
            if error is None:
                landed.sent.append(row)
                PUBLISHED.labels(row["topic"]).inc()
            elif isinstance(error, REFUSALS):
                landed.refused.append((row, error))
            else:
                failed.append((row, error))
        self._rest(failed, landed.sent)
        if landed.sent:
            self._unheard_since = monotonic() if self._under_way else None
        elif landed.refused and not failed and not self._under_way:
            self._unheard_since = None
        return landed

    def _rest(self, failed: list[tuple[Any, BaseException]], sent: list[Any]) -> None:
        for row in sent:
            self._rests.pop(row["order_id"], None)
        if sent and self._silent:
            # The broker is back: whoever rested because of it need not rest on.
            self._rests.clear()
        self._silent = not sent and (self._silent or bool(failed))
        for row, _ in failed:
            last = self._rests.get(row["order_id"])
            seconds = min(last.seconds * 2, LONGEST_REST) if last else SHORTEST_REST
            self._rests[row["order_id"]] = Rest(monotonic() + seconds, seconds)
        if failed:
            log.warning("%d events are sent later: %r", len(failed), failed[0][1])

    def abandon(self) -> None:
        """Wait for nothing that is under way; unmarked, it is sent again."""
        for task in self._under_way:
            task.cancel()


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
