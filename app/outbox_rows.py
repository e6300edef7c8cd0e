"""An event of the outbox: as PostgreSQL gives it, and as workers tell each other of it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from app.times import rfc3339
from app.transaction import OutboxRow

LOOK = ""
"""What the leader is told where it has to look for itself."""
LONGEST_TOLD = 7999
"""Bytes: https://www.postgresql.org/docs/18/sql-notify.html"""


def as_row(row: Mapping[str, Any]) -> OutboxRow:
    """The event in a row as PostgreSQL gives it."""
    return OutboxRow(
        str(row["event_id"]),
        row["topic"],
        row["order_id"],
        row["sequence"],
        row["request_id"],
        rfc3339(row["occurred_at"]),
        row["payload"].encode(),
    )


def as_told(row: OutboxRow) -> str:
    """The event for the leader's ear; LOOK where it is too long for that."""
    told = orjson.dumps([*row[:-1], row.payload.decode()], default=str)
    return told.decode() if len(told) <= LONGEST_TOLD else LOOK


def as_heard(told: str) -> OutboxRow:
    """The event that another worker tells of."""
    event_id, topic, order_id, sequence, request_id, occurred_at, payload = orjson.loads(told)
    return OutboxRow(
        event_id, topic, UUID(order_id), sequence, request_id, occurred_at, payload.encode()
    )
