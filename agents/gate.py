"""Keeps an order's messages behind one that was parked, while all other orders flow."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from app import app
from app.crashes import Point, crash_here
from app.kafka.messages import Message, order_of
from app.metrics import HELD_BACK
from app.parked import park_behind, parked_ahead
from app.transaction import Transaction


class Gate:
    """One handler's. It asks PostgreSQL once a batch, and not at all while nothing is parked.

    That nothing is parked is known until this worker parks something or the group rebalances:
    whoever else parks has the partition meanwhile, and parks before it commits the offset.
    """

    def __init__(self, handler: str) -> None:
        self._handler = handler
        self._open_in: int | None = None
        """The generation of the consumer group in which nothing was parked."""

    def close(self) -> None:
        """Something was parked."""
        self._open_in = None

    async def admit(self, transaction: Transaction, messages: Sequence[Message]) -> list[Message]:
        """The messages to handle; those behind a parked one of their order are parked, too.

        All in the transaction that handles the rest, so that nobody overtakes.
        """
        generation = app.consumer_generation_id
        if self._open_in == generation:
            return list(messages)
        orders = {order_of(message) for message in messages}
        parked, firsts = await parked_ahead(transaction, self._handler, list(orders))
        self._open_in = None if parked else generation
        behind = [message for message in messages if _is_behind(message, firsts)]
        if behind:
            raw = [(order_of(message), message.message) for message in behind]
            await park_behind(transaction, self._handler, raw)
            crash_here(Point.HELD_BACK, self._handler)
            counter = HELD_BACK.labels(self._handler)
            transaction.notices.append(partial(counter.inc, len(behind)))
        return [message for message in messages if message not in behind]


def _is_behind(message: Message, firsts: dict[UUID, int]) -> bool:
    """Not what came before: that was handled, and is only redelivered."""
    first = firsts.get(order_of(message))
    return first is not None and message.message.offset >= first
