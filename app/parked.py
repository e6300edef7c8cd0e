"""Parked messages: what handlers could not take, findable by its order."""

from uuid import UUID

import orjson
from faust.types import Message

from app.db import Database, sql
from app.times import now


async def park(
    database: Database, message: Message, handler: str, error: str, attempts: int
) -> None:
    """Keep the raw message that `handler` could not take; once. Raises one of AWAY."""
    async with database.connection() as connection:
        await sql.park_message(
            connection,
            handler=handler,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            order_id=_order_id(message.key),
            key=message.key,
            value=message.value,
            headers=orjson.dumps(headers_of(message)).decode(),
            error=storable(error[:500]),
            attempts=attempts,
            now=now(),
        )


def storable(text: str) -> str:
    """The text without what PostgreSQL cannot store: NUL, and halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _order_id(key: bytes | None) -> UUID | None:
    try:
        return UUID((key or b"").decode())
    except ValueError:
        return None


def headers_of(message: Message) -> dict[str, str]:
    """The message's headers as text."""
    raw = dict(message.headers or {})
    return {name: (value or b"").decode(errors="replace") for name, value in raw.items()}
