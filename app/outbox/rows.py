"""An event's outbox row: read from PostgreSQL, sent in notifications, and its Kafka headers."""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from app.db.rows import OutboxRow
from app.ids import parse_id
from app.times import rfc3339

RELAY = "relay"
"""The relay's name in parked messages and crash points."""
LOOK = ""
"""The notification that makes the leader read the outbox."""
MAX_NOTIFY_BYTES = 7999
"""The longest payload of NOTIFY, in bytes: https://www.postgresql.org/docs/18/sql-notify.html"""

TRACE_ID = re.compile("(?!0{32})[0-9a-f]{32}")
"""A valid trace id: https://www.w3.org/TR/trace-context/#trace-id"""

HEADER_NAMES = (
    "ce_id",
    "ce_source",
    "ce_specversion",
    "ce_type",
    "ce_subject",
    "ce_time",
    "content-type",
    "traceparent",
    "x-request-id",
    "x-event-type",
)


def as_row(row: Mapping[str, Any]) -> OutboxRow:
    """Convert a row of PostgreSQL."""
    return OutboxRow(
        str(row["event_id"]),
        row["topic"],
        row["order_id"],
        row["sequence"],
        row["request_id"],
        rfc3339(row["occurred_at"]),
        row["payload"].encode(),
    )


def encode_for_notify(row: OutboxRow) -> str:
    """Encode the event as a notification for the leader; return LOOK if it is too long for one."""
    payload = orjson.dumps([*row[:-1], row.payload.decode()], default=str)
    return payload.decode() if len(payload) <= MAX_NOTIFY_BYTES else LOOK


def decode_from_notify(payload: str) -> OutboxRow:
    """Decode another worker's notification."""
    event_id, topic, order_id, sequence, request_id, occurred_at, event = orjson.loads(payload)
    return OutboxRow(
        event_id, topic, parse_id(order_id), sequence, request_id, occurred_at, event.encode()
    )


def headers_of(row: OutboxRow) -> list[tuple[str, bytes]]:
    """Return the headers of an event."""
    subject = str(row.order_id)
    return event_headers(row.event_id, row.topic, subject, row.occurred_at, row.request_id)


def event_headers(
    id: str, topic: str, subject: str, occurred_at: str, request_id: str
) -> list[tuple[str, bytes]]:
    """Return the headers of CloudEvents 1.0 in binary mode, and of the trace.

    All events that a request causes belong to one trace.
    """
    trace = _trace_of(request_id)
    span = id.replace("-", "")[16:]  # the first half of an id is mostly its time
    type = topic.encode()
    values = (
        id.encode(),
        b"/orders",
        b"1.0",
        type,
        subject.encode(),
        occurred_at.encode(),
        b"application/json",
        f"00-{trace}-{span}-01".encode(),
        request_id.encode(),
        type,
    )
    return list(zip(HEADER_NAMES, values, strict=True))


def _trace_of(request_id: str) -> str:
    """Return the request's trace id: its own id if that is a valid one, otherwise a hash of it."""
    if TRACE_ID.fullmatch(request_id):
        return request_id
    return sha256(request_id.encode()).hexdigest()[:32]
