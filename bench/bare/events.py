"""Events as the service writes them: outbox rows, and messages with the same headers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson
from uuid_utils.compat import uuid7


def text_of(moment: datetime) -> str:
    """Return the moment in RFC 3339 with six fractional digits."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def clock() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Event:
    """One future row of the outbox."""

    id: str
    topic: str
    order_id: str
    sequence: int
    request_id: str
    occurred_at: str
    payload: str


def event(topic: str, order_id: str, sequence: int, request_id: str, **more: Any) -> Event:
    """Return an event of an order with the fields that every event has, and `more`."""
    id, occurred_at = str(uuid7()), text_of(clock())
    payload = {
        "eventId": id,
        "orderId": order_id,
        "sequence": sequence,
        "occurredAt": occurred_at,
        "requestId": request_id,
        **more,
    }
    text = orjson.dumps(payload).decode()
    return Event(id, topic, order_id, sequence, request_id, occurred_at, text)


def rows_of(events: list[Event]) -> list[dict[str, Any]]:
    """Return the rows of `outbox`."""
    return [
        {
            "event_id": one.id,
            "topic": one.topic,
            "order_id": one.order_id,
            "sequence": one.sequence,
            "request_id": one.request_id,
            "occurred_at": one.occurred_at,
            "payload": orjson.Fragment(one.payload),
        }
        for one in events
    ]


def headers(event: Event) -> list[tuple[str, bytes]]:
    """Return the ten headers of a message, with names and lengths as in the service."""
    trace = sha256(event.request_id.encode()).hexdigest()[:32]
    values = {
        "ce_id": event.id,
        "ce_source": "/orders",
        "ce_specversion": "1.0",
        "ce_type": event.topic,
        "ce_subject": event.order_id,
        "ce_time": event.occurred_at,
        "content-type": "application/json",
        "traceparent": f"00-{trace}-{event.id.replace('-', '')[16:]}-01",
        "x-request-id": event.request_id,
        "x-event-type": event.topic,
    }
    return [(name, value.encode()) for name, value in values.items()]
