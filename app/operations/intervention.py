"""Replay parked messages in order, or discard them.

A replay passes the message to the handler that refused it, one transaction per message. Handlers
decide by the order's state, so an effect that was committed before the message was parked is not
repeated. The actor and the reason are recorded on the order's timeline.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app import order_locks
from app.db.errors import AWAY
from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.errors import AlreadyResolved, BadEvent, ParkedNotFound
from app.handlers import HANDLERS, POISON
from app.outbox.rows import RELAY
from app.parked import State
from app.text import storable_error
from app.times import now
from app.topics import OrderIntervened

log = logging.getLogger(__name__)

Step = Callable[[], AbstractAsyncContextManager[Transaction]]
"""Opens the transaction for one message."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who intervenes, and why; `request_id` is the id of the request or command."""

    name: str
    reason: str
    request_id: str


async def replay(database: Database, id: UUID, actor: Actor, dry_run: bool) -> list[dict[str, Any]]:
    """Replay the message and then those that wait behind it; return the outcome of each.

    If the message holds up its order, replay starts at the order's first parked message, whichever
    one `id` names; it stops at the first message that is refused or meets a bug. An outcome is
    {id, topic, partition, offset, state, error, events}; `events` are the topics of the events that
    it emitted. A dry run returns the same and rolls back. Raises ParkedNotFound, AlreadyResolved,
    one of AWAY.
    """
    row = await _unresolved(database, id)
    if dry_run:
        async with database.rehearsal() as step:
            return await _go_through(step, row, actor)
    return await _go_through(_replaying(database), row, actor)


async def discard(database: Database, id: UUID, actor: Actor) -> list[dict[str, Any]]:
    """Discard the message, replay those that wait behind it, and return outcomes like `replay`.

    Raises ParkedNotFound, AlreadyResolved, one of AWAY.
    """
    await _unresolved(database, id)
    async with database.transaction("intervention.discard") as transaction:
        row = await sql.lock_parked(transaction.connection, id=id)
        if row is None:
            raise AlreadyResolved
        await _resolve(transaction, row, State.DISCARDED, actor)
    if not row["holds_order"]:
        return [_outcome(row, State.DISCARDED)]
    behind = await _go_through(_replaying(database), row, actor, only_waiting=True)
    return [_outcome(row, State.DISCARDED), *behind]


def _replaying(database: Database) -> Step:
    return lambda: database.transaction("intervention.replay")


async def _unresolved(database: Database, id: UUID) -> Any:
    async with database.connection() as connection:
        row = await sql.get_parked(connection, id=id)
    if row is None:
        raise ParkedNotFound
    if row["resolved_at"] is not None:
        raise AlreadyResolved
    return row


async def _go_through(
    step: Step, named: Any, actor: Actor, only_waiting: bool = False
) -> list[dict[str, Any]]:
    """Replay from the order's first message on, until one fails or none is left.

    With `only_waiting`, also stop at a message that was parked itself.
    """
    outcomes: list[dict[str, Any]] = []
    while outcome := await _replay_next(step, named, actor, only_waiting):
        outcomes.append(outcome)
        if outcome["error"]:
            await _note_refusal(step, outcome)
            break
    return outcomes


async def _replay_next(
    step: Step, named: Any, actor: Actor, only_waiting: bool
) -> dict[str, Any] | None:
    """Replay the next message in a transaction; return its outcome, None if none is left."""
    row = None
    try:
        async with step() as transaction:
            row = await _next(transaction, named)
            if row is None or (only_waiting and row["state"] != State.WAITING):
                return None
            return await _replay_one(transaction, row, actor)
    except AWAY:
        raise
    except Exception as error:
        if row is None:
            raise
        if not isinstance(error, POISON):
            # Perhaps the bug for which an operator parked it: others can be replayed.
            log.exception("%s fails on parked message %s", row["handler"], row["id"])
        return _outcome(row, State.PARKED, f"{type(error).__name__}: {error}")


async def _next(transaction: Transaction, named: Any) -> Any:
    if not named["holds_order"]:
        return await sql.lock_parked(transaction.connection, id=named["id"])
    return await sql.lock_first_parked(
        transaction.connection, handler=named["handler"], order_id=named["order_id"]
    )


async def _replay_one(transaction: Transaction, row: Any, actor: Actor) -> dict[str, Any]:
    handler = HANDLERS.get(row["handler"])
    if handler is None:
        raise BadEvent(f"there is no handler {row['handler']}")
    await handler.take(transaction, row["value"])
    emitted = [event.topic_name for event in transaction.events]
    await _resolve(transaction, row, State.REPLAYED, actor)
    return _outcome(row, State.REPLAYED, events=emitted)


async def _resolve(transaction: Transaction, row: Any, state: State, actor: Actor) -> None:
    await sql.resolve_parked(
        transaction.connection,
        id=row["id"],
        state=state,
        by=actor.name,
        reason=actor.reason,
        now=now(),
    )
    if state is State.DISCARDED and row["handler"] == RELAY:
        await sql.give_up_event(transaction.connection, id=row["offset"])
    # After the handler, which may read the order again and so lose the version of this event.
    order = await order_locks.lock_if_any(transaction, row["order_id"])
    if order is not None:
        transaction.emit(
            OrderIntervened,
            order,
            actor.request_id,
            action="replay" if state is State.REPLAYED else "discard",
            handler=row["handler"],
            messageId=str(row["id"]),
            topic=row["topic"],
            actor=actor.name,
            reason=actor.reason,
        )


async def _note_refusal(step: Step, outcome: dict[str, Any]) -> None:
    async with step() as transaction:
        await sql.note_failed_replay(
            transaction.connection, id=UUID(outcome["id"]), error=outcome["error"]
        )


def _outcome(
    row: Any, state: State, error: str | None = None, events: list[str] | None = None
) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["offset"],
        "state": state,
        "error": error and storable_error(error),
        "events": events or [],
    }
