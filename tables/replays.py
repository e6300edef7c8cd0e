"""The answers to replayed order creations, by user and Idempotency-Key.

Filled from `order.created`; HTTP handlers only read it. A key that this worker's partitions do not
hold, or do not hold yet, is looked up in PostgreSQL.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from app.db.rows import IdempotencyKey
from app.idempotency import answer_to_replay
from app.metrics import REPLAYS
from app.times import now, rfc3339
from app.topics import OrderCreated
from tables.table import table

replays = table("replays", "answers to creations with an Idempotency-Key")


def remember(events: Iterable[tuple[int, OrderCreated]]) -> None:
    """Store the answers that the events carry; each event is given with its partition."""
    answers: list[tuple[int, str, dict[str, Any]]] = []
    for partition, event in events:
        entry = {
            "fingerprint": event.fingerprint,
            "expiresAt": event.keyExpiresAt,
            "answer": event.answer,
        }
        if event.idempotencyKey is not None and None not in entry.values():
            answers.append((partition, _entry_key(event.userId, event.idempotencyKey), entry))
    replays.put(answers)


def is_known(user_id: UUID, key: str) -> bool:
    """Return whether an answer for the key is known here; it may have expired."""
    return replays.find(_entry_key(user_id, key)) is not None


def recall(key: IdempotencyKey) -> dict[str, Any] | None:
    """Return the answer to replay for `key`, if it is known here and has not expired.

    Raises IdempotencyKeyReused.
    """
    entry = replays.find(_entry_key(key.user_id, key.key))
    if entry is None or entry["expiresAt"] <= rfc3339(now()):
        return None
    answer = answer_to_replay(bytes.fromhex(entry["fingerprint"]), entry["answer"], key)
    REPLAYS.labels("table").inc()
    return answer


def _entry_key(user_id: UUID | str, key: str) -> str:
    return f"{user_id}/{key}"
