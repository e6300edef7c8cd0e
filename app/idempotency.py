"""Idempotency-Key: one answer per (user, key), kept with the work in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from app.db import Database, Transaction, sql
from app.errors import IdempotencyInProgress, IdempotencyKeyReused
from app.times import now

MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Key:
    """A client's key, and the fingerprint of the request it came with."""

    user_id: UUID
    key: str
    fingerprint: bytes
    expires_at: datetime


def fingerprint(method: str, path: str, query: str, body: bytes) -> bytes:
    """What makes two requests the same request: method, path, query and body, hashed."""
    parts = [method.encode(), path.encode(), query.encode(), body]
    return sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).digest()


def expiry(ttl_seconds: int) -> datetime:
    """When a key that is used at this moment is forgotten."""
    return now() + timedelta(seconds=ttl_seconds)


async def claim(transaction: Transaction, key: Key) -> dict[str, Any] | None:
    """The stored answer of a finished request with this key; None makes the key ours.

    A request under way is waited for, by PostgreSQL's unique index, up to the lock timeout (2 s).
    Raises IdempotencyInProgress past that, IdempotencyKeyReused for another request.
    """
    try:
        claimed = await sql.claim_key(
            transaction.connection,
            user_id=key.user_id,
            key=key.key,
            fingerprint=key.fingerprint,
            expires_at=key.expires_at,
        )
    except asyncpg.LockNotAvailableError:
        raise IdempotencyInProgress from None
    if claimed:
        return None
    taken = await sql.taken_key(transaction.connection, user_id=key.user_id, key=key.key)
    return replay(taken["fingerprint"], orjson.loads(taken["answer"]), key)


async def claim_all(transaction: Transaction, keys: Sequence[Key | None]) -> list[bool]:
    """Of each request, whether it may go on here: its key is ours now, or it has none.

    Raises asyncpg.LockNotAvailableError where a request under way takes too long.
    """
    # Of two requests with one key, the first has it.
    firsts = {(key.user_id, key.key): n for n, key in reversed(list(enumerate(keys))) if key}
    wanted = [key for n, key in enumerate(keys) if key and firsts[key.user_id, key.key] == n]
    claimed = {firsts[place] for place in await _claim(transaction, wanted)}
    return [key is None or n in claimed for n, key in enumerate(keys)]


async def _claim(transaction: Transaction, keys: Sequence[Key]) -> set[tuple[UUID, str]]:
    if not keys:
        return set()
    keys = sorted(keys, key=lambda key: (key.user_id, key.key))
    rows = await sql.claim_keys(
        transaction.connection,
        user_ids=[key.user_id for key in keys],
        keys=[key.key for key in keys],
        fingerprints=[key.fingerprint for key in keys],
        expirations=[key.expires_at for key in keys],
    )
    return {(row["user_id"], row["key"]) for row in rows}


async def release(transaction: Transaction, keys: Iterable[Key | None]) -> None:
    """Give claimed keys back: their requests come to nothing here."""
    given_up = [key for key in keys if key]
    if given_up:
        await sql.release_keys(
            transaction.connection,
            user_ids=[key.user_id for key in given_up],
            keys=[key.key for key in given_up],
        )


async def recall(database: Database, key: Key) -> dict[str, Any] | None:
    """The stored answer of a finished request with this key, without claiming it.

    Raises IdempotencyKeyReused for another request.
    """
    async with database.connection() as connection:
        taken = await sql.taken_key(connection, user_id=key.user_id, key=key.key)
    if taken is None or taken["answer"] is None or taken["expires_at"] <= now():
        return None
    return replay(taken["fingerprint"], orjson.loads(taken["answer"]), key)


def replay(used_for: bytes, answer: dict[str, Any], key: Key) -> dict[str, Any]:
    """The answer, for the same request again. Raises IdempotencyKeyReused for another."""
    if used_for != key.fingerprint:
        raise IdempotencyKeyReused
    return answer


def settle(transaction: Transaction, key: Key, answer: dict[str, Any]) -> None:
    """Let the transaction store the answer that replays of a claimed key get."""
    transaction.answers.append((key.user_id, key.key, orjson.dumps(answer).decode()))
