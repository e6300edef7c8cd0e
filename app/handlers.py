"""What each agent runs for a message of Kafka, by name; a replay looks it up here."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg

from app.db.transaction import Transaction
from app.errors import BadEvent, UnknownOrder
from app.kafka.decoding import NO_EVENT, read_event
from app.order_locks import Reads
from app.outbox.rows import RELAY
from app.topics import Event

POISON = (BadEvent, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""Errors of a handler for an event that it can never handle."""

NO_ORDER = (UnknownOrder, asyncpg.ForeignKeyViolationError)
"""Those of an event of an order that was never placed: every foreign key refers to `orders`."""

Handle = Callable[[Transaction, Sequence[Any]], Awaitable[None]]
"""Handles a batch of events in a transaction that the caller commits."""


class Handler(NamedTuple):
    """A handler: its name, the record of its events, and the function that handles them.

    `record` is None for the relay, `handle` also for a handler that only fills a table.
    """

    name: str
    record: type[Event] | None
    handle: Handle | None = None
    reads: Reads = Reads.ORDERS
    """What `handle` needs of the orders; it is read for all batches of a transaction at once."""
    moves_stock: bool = False
    """Whether it takes or returns pieces: two such batches do not share a transaction, as one would
    decide by stock that was read before the other gave pieces back."""

    async def take(self, transaction: Transaction, value: bytes | None) -> None:
        """Handle one message's value. Raises one of POISON."""
        if self.record is None:
            return
        try:
            event = read_event(self.record, value or b"")
        except NO_EVENT as error:
            raise BadEvent(f"{type(error).__name__}: {error}") from None
        if self.handle:
            await self.handle(transaction, [event])


HANDLERS: dict[str, Handler] = {RELAY: Handler(RELAY, None)}
"""Handlers by name; the agents add theirs. Messages of `relay` are events that the broker refused:
replaying one only lets the relay send it again."""
