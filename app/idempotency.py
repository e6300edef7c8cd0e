"""Idempotency keys: one answer per user and key, stored in the transaction that does the work."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

import asyncpg
import orjson

from app.db.errors import CONFLICT
from app.db.pools import Database
from app.db.queries import sql
from app.db.rows import IdempotencyKey, KeyId
from app.db.transaction import Transaction
from app.errors import IdempotencyInProgress, IdempotencyKeyReused
from app.metrics import REPLAYS
from app.times import now

MAX_KEY_LENGTH = 255

Keys = Sequence[IdempotencyKey | None]
"""The keys of requests that are done in one batch; None for a request without one."""
Done = TypeVar("Done")


def fingerprint(method: str, path: str, query: str, body: bytes) -> bytes:
    """Return a hash of method, path, query and body: equal for repetitions of one request."""
    parts = [method.encode(), path.encode(), query.encode(), body]
    return sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).digest()


def expiry(ttl_seconds: int) -> datetime:
    """Return when a key that is used now expires."""
    return now() + timedelta(seconds=ttl_seconds)


async def claim(transaction: Transaction, key: IdempotencyKey | None) -> dict[str, Any] | None:
    """Return the stored answer for this key, or claim the key, if there is one, and return None.

    Waits for a running request with the key, on PostgreSQL's unique index, up to the lock timeout
    (2 s). Raises IdempotencyInProgress after that, IdempotencyKeyReused if the key was used for a
    different request.
    """
    if key is None:
        return None
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
    taken = (await _taken(transaction.connection, [key.id])).get(key.id)
    if taken is None:  # it has expired, and was reaped meanwhile
        raise IdempotencyInProgress
    return _stored(taken, key)


async def try_together(
    database: Database, keys: Keys, work: Callable[[Keys], Awaitable[Done]]
) -> Done:
    """Call `work` with all keys; if it fails with one of CONFLICT, again with those not taken.

    Raises one of CONFLICT when concurrent requests or events make the second attempt fail, too.
    """
    try:
        return await work(keys)
    except CONFLICT:
        return await work(await _free(database, keys))


async def _free(database: Database, keys: Keys) -> Keys:
    wanted = [key for key in keys if key]
    async with database.connection() as connection:
        taken = await _taken(connection, [key.id for key in wanted])
    return [key for key in wanted if key.id not in taken]


def may_go_on(keys: Keys, free: Keys) -> Iterator[int]:
    """Yield the indexes of requests that have no key, or a free one.

    If two requests have the same key, only the first goes on.
    """
    left = {key.id for key in free if key}
    for n, key in enumerate(keys):
        if key is None:
            yield n
        elif key.id in left:
            left.remove(key.id)
            yield n


async def is_known(database: Database, key: KeyId) -> bool:
    """Return whether a request with the key was answered."""
    return (await are_known(database, [key]))[0]


async def are_known(database: Database, keys: Sequence[KeyId]) -> list[bool]:
    """Return for each key whether a request with it was answered."""
    async with database.connection() as connection:
        taken = await _taken(connection, keys)
    return [_is_answered(taken.get(key)) for key in keys]


def _is_answered(taken: Mapping[str, Any] | None) -> bool:
    return taken is not None and taken["answer"] is not None and taken["expires_at"] > now()


async def recall(database: Database, key: IdempotencyKey) -> dict[str, Any]:
    """Return the stored answer for the key without claiming it; empty if there is none.

    Raises IdempotencyKeyReused.
    """
    [answer] = await recall_together(database, [key])
    if answer is None:
        raise IdempotencyKeyReused
    return answer


async def recall_together(
    database: Database, keys: Sequence[IdempotencyKey]
) -> list[dict[str, Any] | None]:
    """Recall the answer for each key; None for a key that was used for a different request."""
    async with database.connection() as connection:
        taken = await _taken(connection, [key.id for key in keys])
    return [_recalled(taken.get(key.id), key) for key in keys]


def _recalled(taken: Mapping[str, Any] | None, key: IdempotencyKey) -> dict[str, Any] | None:
    if taken is None or not _is_answered(taken):
        return {}
    if taken["fingerprint"] != key.fingerprint:
        return None
    return _stored(taken, key)


async def _taken(connection: asyncpg.Connection, keys: Sequence[KeyId]) -> dict[KeyId, Any]:
    user_ids, names = [user_id for user_id, _ in keys], [name for _, name in keys]
    rows = await sql.taken_keys(connection, user_ids=user_ids, keys=names)
    return {(row["user_id"], row["key"]): row for row in rows}


def _stored(taken: Mapping[str, Any], key: IdempotencyKey) -> dict[str, Any]:
    answer = answer_to_replay(taken["fingerprint"], orjson.loads(taken["answer"]), key)
    REPLAYS.labels("postgresql").inc()
    return answer


def answer_to_replay(
    used_for: bytes, answer: dict[str, Any], key: IdempotencyKey
) -> dict[str, Any]:
    """Return the answer if the request is the same. Raises IdempotencyKeyReused if not."""
    if used_for != key.fingerprint:
        raise IdempotencyKeyReused
    return answer


def store_answer(
    transaction: Transaction, key: IdempotencyKey | None, answer: dict[str, Any]
) -> None:
    """Have the transaction store the answer that replays of the key, if there is one, get.

    The transaction fails with one of CONFLICT if the key exists and was not claimed in it.
    """
    if key:
        transaction.answers.append((key, orjson.dumps(answer).decode()))
