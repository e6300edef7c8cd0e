"""The one loop that every agent runs on: nothing is acknowledged before its transaction commits.

Faust's own batching acknowledges what failed; `noack()` leaves that to this loop. A batch is what
has arrived by the time the last one is done: one message when it is quiet, many under load.

- Infrastructure that is away is waited for; nothing is dead-lettered because of it.
- A bad message goes to `dead_letter`, after its batch was taken apart to find it.
- Anything else is a bug: the worker crashes with the batch unacknowledged.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import asyncpg
from aiokafka.errors import KafkaError
from faust import Stream
from faust.exceptions import ProducerSendError
from faust.types import AgentT, EventT

from agents.dead_letters import bury
from app import app, pipeline
from app.db import AWAY, Transaction
from app.errors import BadEvent
from app.metrics import DEAD_LETTERS, DUPLICATES, RETRIES
from app.parked import park
from app.topics import Event, Malformed, topic_of
from tables.handled import is_marked, mark

log = logging.getLogger(__name__)

BATCH = 500
BAD = (BadEvent, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

Handle = Callable[[Transaction, Sequence[Any]], Awaitable[None]]
"""Decides a batch of events in the transaction that the loop commits."""
Remember = Callable[[Any], None]
"""Writes a table, event by event, after the commit."""
Message = EventT[Any]
"""A message as Faust gives it; its `value` is our Event, or Malformed."""


def on(
    record: type[Event],
    handle: Handle | None = None,
    *,
    remember: Remember | None = None,
) -> AgentT[Any]:
    """An agent on the record's topic, named after its one work: `orders.mark_paid`."""
    work = handle or remember
    assert work is not None
    name = f"{work.__module__.split('.')[-1]}.{work.__name__}"

    for counter in (DEAD_LETTERS, DUPLICATES, RETRIES):
        counter.labels(name)  # shown as 0 from the start, so that an alert sees the first rise

    async def run(stream: Any) -> None:
        stream = stream.noack()
        loop = Loop(name, stream, handle, remember)
        async for messages in batches(stream):
            await loop.process(messages)

    run.__doc__ = work.__doc__
    return app.agent(topic_of(record), name=name)(run)


async def batches(stream: Stream[Any]) -> AsyncIterator[list[Message]]:
    """Whatever has arrived, in order, at most BATCH messages; never waits for more than one."""
    arrived: asyncio.Queue[Message] = asyncio.Queue(BATCH)

    async def read() -> None:
        async for message in stream.events():
            await arrived.put(message)

    reader = asyncio.create_task(read())
    try:
        while True:
            first = asyncio.ensure_future(arrived.get())
            await asyncio.wait({first, reader}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                first.cancel()
                reader.result()
                return
            batch = [first.result()]
            while not arrived.empty() and len(batch) < BATCH:
                batch.append(arrived.get_nowait())
            yield batch
    finally:
        reader.cancel()


class Loop:
    """How one handler takes messages."""

    def __init__(
        self, name: str, stream: Stream[Any], handle: Handle | None, remember: Remember | None
    ) -> None:
        self._name = name
        self._stream = stream
        self._handle = handle
        self._remember = remember

    async def process(self, messages: list[Message]) -> None:
        """Take the messages, then acknowledge all of them."""
        fresh = []
        for message in messages:
            if isinstance(message.value, Malformed):
                await self._bury(message, message.value.error, attempts=1)
            elif self._is_duplicate(message):
                DUPLICATES.labels(self._name).inc()
            else:
                fresh.append(message)
        await self._take(fresh)
        for message in messages:
            await self._stream.ack(message)

    def _is_duplicate(self, message: Message) -> bool:
        with self._current(message):
            return is_marked(self._name, _event(message).eventId)

    async def _take(self, messages: list[Message], attempts: int = 1) -> None:
        """Commit, then mark; a batch that holds a bad message is taken apart, one by one."""
        if not messages:
            return
        try:
            await self._commit([_event(message) for message in messages])
        except BAD as error:
            if len(messages) == 1:
                await self._bury(messages[0], f"{type(error).__name__}: {error}", attempts)
                return
            for message in messages:
                await self._take([message], attempts + 1)
            return
        for message in messages:
            with self._current(message):
                if self._remember:
                    self._remember(message.value)
                mark(self._name, _event(message).eventId)

    async def _commit(self, events: list[Event]) -> None:
        if self._handle is None:
            return
        handle = self._handle

        async def commit() -> None:
            async with pipeline.transaction() as transaction:
                await handle(transaction, events)

        await self._insist(commit)

    async def _bury(self, message: Message, error: str, attempts: int) -> None:
        where = f"{message.message.tp} at {message.message.offset}"
        log.error("%s cannot take %s: %s", self._name, where, error)
        # Each by itself: PostgreSQL that is away must not cost further dead letters.
        await self._insist(lambda: bury(message, self._name, error, attempts))
        await self._insist(lambda: park(pipeline, message.message, self._name, error, attempts))

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
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

    @contextmanager
    def _current(self, message: Message) -> Iterator[None]:
        """Make the message current: a table takes its partition from there."""
        self._stream._set_current_event(message)
        try:
            yield
        finally:
            self._stream._set_current_event(None)


def _event(message: Message) -> Event:
    return cast(Event, message.value)
