"""Parked messages: those that handlers could not handle, and those that wait behind them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.errors import ParkedNotFound
from app.ids import parse_id
from app.kafka.messages import RawMessage, order_id_of_key, text_headers
from app.text import storable_error
from app.times import now, rfc3339

RETENTION = timedelta(days=30)
"""How long a message is kept after it was resolved."""


class State(StrEnum):
    """The state of a parked message. It is resolved when it is REPLAYED or DISCARDED."""

    PARKED = "PARKED"
    WAITING = "WAITING"
    REPLAYED = "REPLAYED"
    DISCARDED = "DISCARDED"


UNRESOLVED = (State.PARKED, State.WAITING)


async def park(
    database: Database,
    message: RawMessage,
    handler: str,
    error: str,
    attempts: int,
    order_id: UUID | None = None,
) -> UUID | None:
    """Park the raw message that `handler` could not handle, once. Raises one of AWAY.

    Returns its id, or None if it was parked before. With an `order_id`, later messages of that
    order wait behind it. Without one it delays nothing, and is listed under the order that its key
    names, if any.
    """
    async with database.connection() as connection:
        id: UUID | None = await sql.park_message(
            connection,
            handler=handler,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            order_id=order_id or order_id_of_key(message.key),
            holds_order=order_id is not None,
            key=message.key,
            value=message.value,
            headers=_headers_json(message),
            error=storable_error(error),
            attempts=attempts,
            now=now(),
        )
        return id


async def park_again(
    database: Database, message: RawMessage, handler: str, error: str
) -> UUID | None:
    """Park a message that was replayed or discarded before; return its id, None if there is none.

    Raises one of AWAY.
    """
    async with database.connection() as connection:
        id: UUID | None = await sql.park_again(
            connection,
            handler=handler,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            value=message.value,
            error=storable_error(error),
            now=now(),
        )
        return id


async def parked_ahead(
    transaction: Transaction, handler: str, order_ids: Sequence[UUID]
) -> tuple[bool, dict[UUID, int]]:
    """Return whether `handler` has a parked message that holds any order, and the first by order.

    The first is the offset of the order's first such message, for those of `order_ids` that have
    one. Nobody can resolve the messages found until the transaction ends.
    """
    row = await sql.parked_ahead(transaction.connection, handler=handler, order_ids=order_ids)
    firsts = orjson.loads(row["first_by_order"] or "{}")
    return row["any_at_all"], {parse_id(order_id): first for order_id, first in firsts.items()}


async def park_behind(
    transaction: Transaction, handler: str, messages: Sequence[tuple[UUID, RawMessage]]
) -> None:
    """Park messages, given with their orders, behind parked ones of their orders; each once."""
    raw = [message for _, message in messages]
    await sql.park_behind(
        transaction.connection,
        handler=handler,
        topic=raw[0].topic,
        partitions=[message.partition for message in raw],
        offsets=[message.offset for message in raw],
        order_ids=[order_id for order_id, _ in messages],
        keys=[message.key for message in raw],
        payloads=[message.value for message in raw],
        headers=[_headers_json(message) for message in raw],
        now=now(),
    )


async def get(database: Database, id: UUID) -> dict[str, Any]:
    """Return one parked message, with its key and value as text.

    Raises ParkedNotFound, one of AWAY.
    """
    async with database.connection() as connection:
        row = await sql.get_parked(connection, id=id)
    if row is None:
        raise ParkedNotFound
    return {
        **as_json(row),
        "key": _text(row["key"]),
        "value": _text(row["value"]),
        "headers": orjson.loads(row["headers"]),
    }


async def page(
    database: Database,
    handler: str | None,
    order_id: UUID | None,
    state: State | None,
    position: list[str] | None,
    size: int,
) -> list[tuple[dict[str, Any], list[str]]]:
    """Return up to `size` messages after `position`, latest first, with their positions.

    Without a `state`, messages that are not resolved. Raises ValueError for an invalid `position`.
    """
    wanted = {
        "states": [state] if state else UNRESOLVED,
        "before": int(position[0]) if position else None,
        "page_size": size,
    }
    async with database.connection() as connection:
        if order_id is not None:
            handlers = [handler] if handler else None
            rows = await sql.list_parked_of_order(
                connection, order_id=order_id, handlers=handlers, **wanted
            )
        elif handler is not None:
            rows = await sql.list_parked_of_handler(connection, handler=handler, **wanted)
        else:
            rows = await sql.list_parked(connection, **wanted)
    return [(as_json(row), [str(row["position"]), ""]) for row in rows]


async def parked_ids(database: Database, handler: str) -> list[UUID]:
    """Return the ids of a handler's unresolved messages that wait behind none of their order.

    The first parked is the first. A replay of each goes through all that is unresolved.
    """
    async with database.connection() as connection:
        rows = await sql.parked_ids(connection, handler=handler)
    return [row["id"] for row in rows]


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message as administrators see it, without key, value and headers."""
    order_id, resolved_at = row["order_id"], row["resolved_at"]
    return {
        "id": str(row["id"]),
        "handler": row["handler"],
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["offset"],
        "orderId": order_id and str(order_id),
        "state": row["state"],
        "holdsOrder": row["holds_order"],
        "error": row["error"],
        "attempts": row["attempts"],
        "parkedAt": rfc3339(row["parked_at"]),
        "resolvedAt": resolved_at and rfc3339(resolved_at),
        "resolvedBy": row["resolved_by"],
        "reason": row["resolve_reason"],
    }


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")


def _headers_json(message: RawMessage) -> str:
    return orjson.dumps(text_headers(message)).decode()
