"""Commit the batches of several agents that are ready at once in one shared transaction.

Small transactions are the largest cost of processing an order. Together, five agents with a message
each need only one BEGIN, one statement that locks and reads, one that writes, and one COMMIT. A
batch that cannot be committed with the others is committed alone.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from agents.gate import Gate
from app import agent_batch_pool, agent_pool
from app.db.batching import Batcher
from app.db.errors import AWAY
from app.db.transaction import Transaction
from app.errors import BadEvent
from app.handlers import Handler
from app.kafka.messages import Message, event_of, order_id_of
from app.order_locks import Reads, lock_all

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of messages for one handler."""

    handler: Handler
    gate: Gate
    messages: list[Message]

    @property
    def order_ids(self) -> set[UUID]:
        return {order_id_of(message) for message in self.messages}


async def _commit_alone(batch: Batch) -> list[Message]:
    """Handle the messages that are not behind a parked one, commit, and return them."""
    async with agent_pool.transaction(batch.handler.name) as transaction:
        # Lock parked messages before orders, as a replay does, so that the two cannot deadlock.
        admitted = await batch.gate.admit(transaction, batch.messages)
        if admitted:
            await _read(transaction, [batch])
            await _handle(transaction, batch, admitted)
    return admitted


async def _commit_together(batches: Sequence[Batch]) -> list[list[Message] | None]:
    """Return for each batch what `_commit_alone` would, or None where that has to be done."""
    shared = _apart(batches)
    names = [batch.handler.name for batch in shared]
    admitted: list[list[Message]] = []
    try:
        async with agent_batch_pool.transaction(*names) as transaction:
            await _read(transaction, shared)
            for batch in shared:
                messages = await batch.gate.admit(transaction, batch.messages)
                await _handle(transaction, batch, messages)
                admitted.append(messages)
    except TimeoutError as error:
        # It may be more than PostgreSQL can do in time, and would be so again.
        log.warning("The batches of %s are committed alone: %r", ", ".join(names), error)
        return [None for _ in batches]
    except (*AWAY, asyncpg.PostgresError):
        raise
    except Exception as error:
        # A bad event, or a bug, of one batch: it is found when each is committed alone.
        bug = None if isinstance(error, BadEvent) else error
        log.warning("The batches of %s are committed alone", ", ".join(names), exc_info=bug)
        return [None for _ in batches]
    done = {id(batch): messages for batch, messages in zip(shared, admitted, strict=True)}
    return [done.get(id(batch)) for batch in batches]


async def _read(transaction: Transaction, batches: Sequence[Batch]) -> None:
    """Lock and read all that the handlers need in one round trip, so that they cannot deadlock."""

    def of(*kinds: Reads) -> set[UUID]:
        return set().union(*(batch.order_ids for batch in batches if batch.handler.reads in kinds))

    order_ids = of(Reads.ORDERS, Reads.MONEY, Reads.STOCK)
    await lock_all(transaction, order_ids, money_of=of(Reads.MONEY), stock_of=of(Reads.STOCK))


async def _handle(transaction: Transaction, batch: Batch, messages: Sequence[Message]) -> None:
    if messages and batch.handler.handle:
        await batch.handler.handle(transaction, [event_of(message) for message in messages])


def _apart(batches: Sequence[Batch]) -> list[Batch]:
    """Return batches that share neither an order nor stock.

    Writes are deferred to the end of the transaction, so a handler does not see those of another.
    """
    seen: set[UUID | str] = set()
    shared = []
    for batch in batches:
        touched = batch.order_ids | ({"stock"} if batch.handler.moves_stock else set())
        if seen.isdisjoint(touched):
            shared.append(batch)
            seen |= touched
    return shared


commits: Batcher[Batch, list[Message]] = Batcher(_commit_together, _commit_alone)
