"""A Kafka message as agents receive it, and what can be read from it."""

from typing import Any, cast
from uuid import UUID

import faust.types

from app.topics import Event

Message = faust.types.EventT[Any]
"""A message as Faust delivers it to an agent; its `value` is an Event or Malformed."""
RawMessage = faust.types.Message
"""The bytes of a message, and where they are in Kafka: what is parked."""


def event_of(message: Message) -> Event:
    """Return the event of a message that is not Malformed."""
    return cast(Event, message.value)


def order_id_of_key(key: bytes | None) -> UUID | None:
    """Return the order id in a message's key; None if the key is not a UUID."""
    try:
        return UUID((key or b"").decode())
    except ValueError:
        return None


def text_headers(message: RawMessage) -> dict[str, str]:
    """Return the message's headers as text."""
    raw = dict(message.headers or {})
    return {name: (value or b"").decode(errors="replace") for name, value in raw.items()}


def request_id_of(message: Message) -> str:
    """Return the id of the request that caused the message; `-` if the message is Malformed."""
    return getattr(message.value, "requestId", "-")


def order_id_of(message: Message) -> UUID:
    """Return the id of the order of a message that is not Malformed."""
    return event_of(message).order_id


def message_ref(message: Message) -> str:
    """Return where the message is in Kafka, as people read and write it: `order.paid/2@117`."""
    return f"{message.message.topic}/{message.message.partition}@{message.message.offset}"
