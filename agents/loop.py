"""The loop that every agent runs: no message is acknowledged before its transaction commits.

Faust's own batching also acknowledges failed messages; with `noack()` this loop acknowledges. A
batch is what has arrived by the time the last one is done: one message when idle, many under load.

- If infrastructure is away, the loop retries until it is back; nothing is dead-lettered for it.
- A batch that takes too long is repeated in halves: PostgreSQL may be too slow for the whole.
- A bad message is found by handling its batch one by one; it goes to `dead_letter` and is parked.
- Later messages of its order are parked behind it; all other orders continue.
- Any other error is a bug. The message that causes it is found in the same way and logged, and the
  worker crashes with the batch unacknowledged.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError
from faust.types import AgentT

from agents.commits import Batch, commits
from agents.dead_letters import send_dead_letter
from agents.gate import Gate
from agents.stream import batches
from app import admission, agent_pool, app
from app.crashes import Point, crash_here
from app.db.errors import AWAY
from app.handlers import HANDLERS, NO_ORDER, POISON, Handle, Handler
from app.kafka.decoding import EventSchema, Malformed
from app.kafka.messages import Message, event_of, message_ref, order_id_of, request_id_of
from app.metrics import DEAD_LETTERS, DUPLICATES, HELD_BACK, RETRIES
from app.order_locks import Reads
from app.parked import park
from app.resilience.timeouts import retry_delays
from app.topics import Event
from tables.handled import is_marked, mark

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

Acknowledge = Callable[[Message], Awaitable[Any]]
"""Lets the message's offset be committed once all agents of its topic have acknowledged it."""
Remember = Callable[[Iterable[tuple[int, Any]]], None]
"""Writes (partition, event) pairs to a table, after the commit."""


def on(
    record: type[Event],
    handle: Handle | None = None,
    *,
    remember: Remember | None = None,
    reads: Reads = Reads.ORDERS,
    moves_stock: bool = False,
) -> AgentT[Any]:
    """Create an agent on the record's topic, named after its function: `orders.mark_paid`.

    `remember` writes the events to a table after the commit; for the rest see Handler.
    """
    work = handle or remember
    assert work is not None
    name = f"{work.__module__.split('.')[-1]}.{work.__name__}"
    handler = HANDLERS[name] = Handler(name, record, handle, reads, moves_stock)
    for counter in (DEAD_LETTERS, DUPLICATES, HELD_BACK, RETRIES):
        counter.labels(name)  # shown as 0 from the start, so that an alert sees the first rise

    async def run(stream: Any) -> None:
        stream = stream.noack()
        loop = Loop(handler, stream.ack, remember)
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


class Loop:
    """Processes the messages of one handler."""

    def __init__(
        self, handler: Handler, acknowledge: Acknowledge, remember: Remember | None = None
    ) -> None:
        self._handler = handler
        self._name = handler.name
        self._acknowledge = acknowledge
        self._remember = remember
        self._gate = Gate(handler.name)

    async def process(self, messages: list[Message]) -> None:
        """Handle the messages, then acknowledge all of them."""
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
            await self._acknowledge(message)
        crash_here(Point.ACKNOWLEDGED, self._name)

    def _is_duplicate(self, message: Message) -> bool:
        partition = message.message.partition
        return is_marked(self._name, partition, event_of(message).eventId)

    async def _take(self, messages: list[Message], attempts: int = 1) -> None:
        """Commit, then mark; a batch that fails is repeated one message at a time.

        One that takes too long is repeated in halves.
        """
        try:
            handled = await self._commit(messages)
        except TimeoutError:
            half = len(messages) // 2
            await self._take(messages[:half], attempts)
            await self._take(messages[half:], attempts)
            return
        except Exception as error:
            if len(messages) == 1:
                await self._fail(messages[0], error, attempts)
                return
            if not isinstance(error, POISON):
                log.warning("%s takes its messages one by one", self._name, exc_info=error)
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
        """Handle and commit the messages that are not behind a parked one, and return them.

        Raises TimeoutError only for several messages, which may be too many.
        """
        if self._handler.handle is None:
            return messages
        batch = Batch(self._handler, self._gate, messages)
        return await self._insist(lambda: commits.do(batch), is_divisible=len(messages) > 1)

    async def _fail(self, message: Message, error: Exception, attempts: int) -> None:
        """Put a bad message aside. Raises `error` if it is a bug."""
        if not isinstance(error, POISON):
            extra = {"request_id": request_id_of(message)}
            log.critical(
                "%s crashes on %s: %r", self._name, message_ref(message), error, extra=extra
            )
            raise error
        # An order that does not exist has no later messages to hold back.
        holds_order = not isinstance(error, NO_ORDER)
        await self._put_aside(message, f"{type(error).__name__}: {error}", attempts, holds_order)

    async def _put_aside(
        self, message: Message, error: str, attempts: int, holds_order: bool
    ) -> None:
        extra = {"request_id": request_id_of(message)}
        log.error("%s cannot take %s: %s", self._name, message_ref(message), error, extra=extra)
        order_id = order_id_of(message) if holds_order else None
        if holds_order:
            self._gate.close()
        # Two separate retries: an outage of PostgreSQL must not send the dead letter again.
        await self._insist(lambda: send_dead_letter(message, self._name, error, attempts))
        crash_here(Point.DEAD_LETTERED, self._name)
        await self._insist(
            lambda: park(agent_pool, message.message, self._name, error, attempts, order_id)
        )
        crash_here(Point.PARKED, self._name)

    async def _insist(
        self, work: Callable[[], Awaitable[Outcome]], is_divisible: bool = False
    ) -> Outcome:
        """Do the work, retrying with backoff while infrastructure is away.

        Raises TimeoutError if the work is divisible and takes too long.
        """
        delays = retry_delays()
        while True:
            try:
                return await work()
            except (*AWAY, KafkaError, ProducerSendError) as error:
                if is_divisible and isinstance(error, TimeoutError):
                    RETRIES.labels(self._name).inc()
                    log.warning("%s goes on with smaller batches: %r", self._name, error)
                    raise
                await self._wait(next(delays), error)

    async def _wait(self, delay: float, error: Exception) -> None:
        RETRIES.labels(self._name).inc()
        log.warning("%s waits %.1f s: %r", self._name, delay, error)
        await asyncio.sleep(delay)
