"""Hold an order's messages back behind a parked one, while all other orders continue."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from app import app
from app.crashes import Point, crash_here
from app.db.transaction import Transaction
from app.kafka.messages import Message, order_id_of
from app.metrics import HELD_BACK
from app.parked import park_behind, parked_ahead


class Gate:
    """The gate of one handler: one query for each batch, or none while nothing is parked.

    The knowledge that nothing is parked is valid until this worker parks something or the group
    rebalances: another worker can park only after it was assigned the partition, and it parks
    before it commits the offset. Only an operator may park a message at any time, because it
    crashes the workers (`parked park`): that is known after the next crash, at the latest.
    """

    def __init__(self, handler: str) -> None:
        self._handler = handler
        self._open_in: int | None = None
        """The consumer group generation in which nothing was parked; None if not known."""

    def close(self) -> None:
        """Note that something was parked, so that the next batch queries PostgreSQL again."""
        self._open_in = None

    async def admit(self, transaction: Transaction, messages: Sequence[Message]) -> list[Message]:
        """Return the messages to handle; park those behind a parked message of their order.

        Both happen in the transaction that handles the rest, so that no message overtakes another.
        """
        generation = app.consumer_generation_id
        if self._open_in == generation:
            return list(messages)
        order_ids = {order_id_of(message) for message in messages}
        parked, firsts = await parked_ahead(transaction, self._handler, list(order_ids))
        self._open_in = None if parked else generation
        behind = [message for message in messages if _is_behind(message, firsts)]
        if behind:
            raw = [(order_id_of(message), message.message) for message in behind]
            await park_behind(transaction, self._handler, raw)
            crash_here(Point.HELD_BACK, self._handler)
            counter = HELD_BACK.labels(self._handler)
            transaction.notices.append(partial(counter.inc, len(behind)))
        return [message for message in messages if message not in behind]


def _is_behind(message: Message, firsts: dict[UUID, int]) -> bool:
    """Return whether the message comes after its order's first parked one.

    A message with a lower offset was handled already and is only redelivered.
    """
    first = firsts.get(order_id_of(message))
    return first is not None and message.message.offset >= first
