"""Every handler by name, for whoever gives it a message beside Kafka; the agents fill it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg

from app.errors import BadEvent
from app.kafka.decoding import NO_EVENT, read_event
from app.outbox import RELAY
from app.topics import Event
from app.transaction import Transaction

BAD = (BadEvent, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""What a handler raises for an event that it can never take."""

Handle = Callable[[Transaction, Sequence[Any]], Awaitable[None]]
"""Decides a batch of events in a transaction that its caller commits."""


class Handler(NamedTuple):
    """What a handler reads, if it reads, and its work; None where it only fills a table."""

    record: type[Event] | None
    handle: Handle | None

    async def take(self, transaction: Transaction, value: bytes | None) -> None:
        """Handle one message's value. Raises one of BAD."""
        if self.record is None:
            return
        try:
            event = read_event(self.record, value or b"")
        except NO_EVENT as error:
            raise BadEvent(f"{type(error).__name__}: {error}") from None
        if self.handle:
            await self.handle(transaction, [event])


HANDLERS: dict[str, Handler] = {RELAY: Handler(None, None)}
"""By name; agents add theirs. `relay` has an event that the broker refused: to replay it is only to
let the relay send it again."""
