"""The one loop that every agent runs on: nothing is acknowledged before its transaction commits.

Faust's own batching acknowledges what failed; `noack()` leaves that to this loop. A batch is what
has arrived by the time the last one is done: one message when it is quiet, many under load.

- Infrastructure that is away is waited for; nothing is dead-lettered because of it.
- A bad message goes to `dead_letter` and is parked, after its batch was taken apart to find it.
- Later messages of its order wait behind it, also parked; all other orders flow.
- Anything else is a bug: the worker crashes with the batch unacknowledged.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

from aiokafka.errors import KafkaError
from faust import Stream
from faust.exceptions import ProducerSendError
from faust.types import AgentT

from agents.commits import Batch, commits
from agents.dead_letters import send_dead_letter
from agents.gate import Gate
from app import admission, agent_pool, app
from app.crashes import Point, crash_here
from app.db import AWAY
from app.errors import UnknownOrder
from app.handlers import BAD, HANDLERS, Handle, Handler
from app.kafka.decoding import EventSchema, Malformed
from app.kafka.messages import Message, event_of, order_of, request_of
from app.metrics import DEAD_LETTERS, DUPLICATES, HELD_BACK, RETRIES
from app.order_rows import Reads
from app.parked import park
from app.topics import Event
from tables.handled import is_marked, mark

log = logging.getLogger(__name__)

BATCH = 500

Outcome = TypeVar("Outcome")

Remember = Callable[[Iterable[tuple[int, Any]]], None]
"""Writes a table, after the commit, from events with their partitions."""


def on(
    record: type[Event],
    handle: Handle | None = None,
    *,
    remember: Remember | None = None,
    reads: Reads = Reads.ORDERS,
) -> AgentT[Any]:
    """An agent on the record's topic, named after its one work: `orders.mark_paid`.

    `reads` is what the work wants to know; what is read with others' costs no round trip.
    """
    work = handle or remember
    assert work is not None
    name = f"{work.__module__.split('.')[-1]}.{work.__name__}"

    HANDLERS[name] = Handler(record, handle)
    for counter in (DEAD_LETTERS, DUPLICATES, HELD_BACK, RETRIES):
        counter.labels(name)  # shown as 0 from the start, so that an alert sees the first rise

    async def run(stream: Any) -> None:
        stream = stream.noack()
        loop = Loop(name, stream, handle, remember, reads)
        async for messages in batches(stream):
            with app.batch():
                await loop.process(messages)
            if app.should_stop:
                return

    run.__doc__ = work.__doc__
    topic = app.topic(
        record.topic_name,
        schema=EventSchema(value_type=record, key_serializer="raw", allow_empty=False),
    )
    return app.agent(topic, name=name)(run)


async def batches(stream: Stream[Any]) -> AsyncIterator[list[Message]]:
    """Whatever has arrived, in order, at most BATCH messages; never waits for more than one.

    Taken from the stream's queue: iterating over a stream costs rounds of the loop for each
    message. What a stream does with a message besides is done here.
    """
    await stream.maybe_start()
    queue: asyncio.Queue[Message] = cast(Any, stream.channel).queue
    while True:
        try:
            arrived = [await queue.get()]
        except StopAsyncIteration:
            return  # the worker stops
        while len(arrived) < BATCH and not queue.empty():
            arrived.append(queue.get_nowait())
        if batch := [message for message in arrived if _accept(stream, message)]:
            yield batch


def _accept(stream: Stream[Any], arrived: Message) -> bool:
    """Whether the message is of this generation of the group; if so, the offset waits for it."""
    message = arrived.message
    if message.generation_id != app.consumer_generation_id or not app.flow_control.is_active():
        return False
    if not message.tracked:
        message.tracked = True
        cast(Any, app.consumer).track_message(message)
    app.monitor.on_stream_event_in(message.tp, message.offset, stream, arrived)
    return True


class Loop:
    """How one handler takes messages."""

    def __init__(
        self,
        name: str,
        stream: Stream[Any],
        handle: Handle | None,
        remember: Remember | None,
        reads: Reads,
    ) -> None:
        self._name = name
        self._stream = stream
        self._handle = handle
        self._remember = remember
        self._reads = reads
        self._gate = Gate(name)

    async def process(self, messages: list[Message]) -> None:
        """Take the messages, then acknowledge all of them."""
        fresh = []
        for message in messages:
            if isinstance(message.value, Malformed):
                await self._put_aside(message, message.value.error, 1, holds_order=False)
            elif self._is_duplicate(message):
                DUPLICATES.labels(self._name).inc()
            else:
                fresh.append(message)
        if fresh:
            with admission.taking(self._name, fresh[0].message.timestamp, len(fresh)):
                await self._take(fresh)
        for message in messages:
            await self._stream.ack(message)
        crash_here(Point.ACKNOWLEDGED, self._name)

    def _is_duplicate(self, message: Message) -> bool:
        partition = message.message.partition
        return is_marked(self._name, partition, event_of(message).eventId)

    async def _take(self, messages: list[Message], attempts: int = 1) -> None:
        """Commit, then mark; a batch that holds a bad message is taken apart, one by one."""
        if not messages:
            return
        try:
            handled = await self._commit(messages)
        except BAD as error:
            if len(messages) == 1:
                await self._refuse(messages[0], error, attempts)
                return
            for message in messages:
                await self._take([message], attempts + 1)
            return
        events = [(message.message.partition, event_of(message)) for message in handled]
        if self._remember:
            self._remember(events)
            crash_here(Point.REMEMBERED, self._name)
        mark(self._name, [(partition, event.eventId) for partition, event in events])
        crash_here(Point.MARKED, self._name)

    async def _commit(self, messages: list[Message]) -> list[Message]:
        """Handle the messages that nothing is parked ahead of; which those were."""
        if self._handle is None:
            return messages
        batch = Batch(self._name, self._gate, self._handle, messages, self._reads)
        return await self._insist(lambda: commits.do(batch))

    async def _refuse(self, message: Message, error: Exception, attempts: int) -> None:
        # An order that was never placed has nothing that could be overtaken.
        holds_order = not isinstance(error, UnknownOrder)
        await self._put_aside(message, f"{type(error).__name__}: {error}", attempts, holds_order)

    async def _put_aside(
        self, message: Message, error: str, attempts: int, holds_order: bool
    ) -> None:
        where = f"{message.message.tp} at {message.message.offset}"
        extra = {"request_id": request_of(message)}
        log.error("%s cannot take %s: %s", self._name, where, error, extra=extra)
        order_id = order_of(message) if holds_order else None
        if holds_order:
            self._gate.close()
        # Each by itself: PostgreSQL that is away must not cost further dead letters.
        await self._insist(lambda: send_dead_letter(message, self._name, error, attempts))
        crash_here(Point.BURIED, self._name)
        await self._insist(
            lambda: park(agent_pool, message.message, self._name, error, attempts, order_id)
        )
        crash_here(Point.PARKED, self._name)

    async def _insist(self, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do the work; infrastructure that is away is waited for."""
        delay = 0.1
        while True:
            try:
                return await work()
            except (*AWAY, KafkaError, ProducerSendError) as error:
                delay = await self._wait(delay, error)

    async def _wait(self, delay: float, error: Exception) -> float:
        """Sleep for `delay` seconds; the next delay."""
        RETRIES.labels(self._name).inc()
        log.warning("%s waits %.1f s: %r", self._name, delay, error)
        await asyncio.sleep(delay)
        return min(delay * 2, 5.0)
