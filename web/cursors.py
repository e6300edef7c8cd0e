"""Pages of lists, and the opaque cursors that lead from one to the next."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg
import orjson

from app.errors import InvalidInput
from app.text import flaw

NO_CURSOR = "is not a cursor of this list"
NEXT_PAGE = {"cursor": "$response.body#/nextCursor"}
"""The parameter by which a page's answer leads to the next one (OpenAPI's Link Object)."""

Entries = list[tuple[dict[str, Any], list[str]]]
"""Entries of a list, each with its position."""


class Cursor(NamedTuple):
    """The position of an entry in a list, bound to the list's filters."""

    filters: list[Any]
    position: list[str]

    def __str__(self) -> str:
        raw = orjson.dumps([self.filters, self.position])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """Read a cursor, of whatever list it is. Raises ValueError."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        value = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        raise ValueError(NO_CURSOR) from None
    match value:
        case [list(filters), [str(first), str(second)]] if not flaw(first):
            return Cursor(filters, [first, second])
    raise ValueError(NO_CURSOR)


def position_in(cursor: Cursor | None, filters: list[str | None]) -> list[str] | None:
    """Return the cursor's position in the list of these filters, if there is a cursor.

    Raises InvalidInput for a cursor of another list.
    """
    if cursor and cursor.filters != filters:
        raise InvalidInput.of("#/cursor", NO_CURSOR)
    return cursor and cursor.position


async def page_of(
    cursor: Cursor | None,
    limit: int,
    filters: list[str | None],
    find: Callable[[list[str] | None, int], Awaitable[Entries]],
) -> dict[str, Any]:
    """Return the page after the cursor. Raises InvalidInput for a cursor that is not of this list.

    `find` returns entries after a position, or from the beginning; at most as many as it is asked.
    """
    position = position_in(cursor, filters)
    try:
        entries = await find(position, limit + 1)
    except (ValueError, asyncpg.DataError):
        raise InvalidInput.of("#/cursor", NO_CURSOR) from None
    return page(entries, limit, filters)


def page(entries: Entries, limit: int, filters: list[str | None]) -> dict[str, Any]:
    """Return a page of up to `limit` entries; `entries` has one more if there is a next page."""
    more = len(entries) > limit
    data = [entry for entry, _ in entries[:limit]]
    next_cursor = str(Cursor(filters, entries[limit - 1][1])) if more else None
    return {"data": data, "hasMore": more, "nextCursor": next_cursor}
