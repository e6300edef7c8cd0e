"""The answers that replays of an order's creation get, by user and Idempotency-Key.

Filled from `order.created`; HTTP handlers only read it. A key that is not on this worker, or not
here yet, is looked up in PostgreSQL.
"""

from typing import Any
from uuid import UUID

from app.idempotency import Key, replay
from app.metrics import REPLAYS
from app.times import now, rfc3339
from app.topics import OrderCreated
from tables.options import table

replays = table("replays", "answers to creations with an Idempotency-Key")


def remember(event: OrderCreated) -> None:
    """Keep the answer that the event carries. Called while the event is current."""
    entry = {
        "fingerprint": event.fingerprint,
        "expiresAt": event.keyExpiresAt,
        "answer": event.answer,
    }
    if event.idempotencyKey is not None and None not in entry.values():
        replays[_place(event.userId, event.idempotencyKey)] = entry


def recall(key: Key) -> dict[str, Any] | None:
    """The answer to replay for `key`, if it is known here. Raises IdempotencyKeyReused."""
    entry = replays.get(_place(key.user_id, key.key))
    if entry is None or entry["expiresAt"] <= rfc3339(now()):
        return None
    answer = replay(bytes.fromhex(entry["fingerprint"]), entry["answer"], key)
    REPLAYS.labels("table").inc()
    return answer


def _place(user_id: UUID | str, key: str) -> str:
    return f"{user_id}/{key}"
