"""The ids of rows and events: UUIDs that increase with time (RFC 9562, version 7).

However many orders there are, new rows share the last pages of their indexes. Random ids would each
touch another page, which has to be read, and written as a whole to PostgreSQL's WAL.
"""

from collections.abc import Callable
from uuid import UUID

from asyncpg.pgproto import pgproto
from uuid_utils import uuid7

parse_id: Callable[[str | bytes], UUID] = pgproto.UUID
"""Parse an id's text or its 16 bytes, by asyncpg's own UUID: it is many times faster to read, hash
and write. Raises ValueError."""


def read_id(text: str) -> UUID:
    """Read an id that a client sent, with its dashes where they belong (RFC 9562, section 4).

    Raises ValueError.
    """
    # `parse_id` takes 32 hexadecimal digits with dashes anywhere, or none, and nothing else.
    if text[8:24:5] != "----":
        raise ValueError("must be a UUID")
    return parse_id(text)


def new_id() -> UUID:
    """Return a new id."""
    return parse_id(uuid7().bytes)
