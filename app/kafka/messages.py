"""A message of Kafka as the agents meet it."""

from typing import Any, cast
from uuid import UUID

from faust.types import EventT

from app.topics import Event

Message = EventT[Any]
"""A message as Faust gives it; its `value` is our Event, or Malformed."""


def event_of(message: Message) -> Event:
    """What a message that is not Malformed tells."""
    return cast(Event, message.value)


def order_of_key(key: bytes | None) -> UUID | None:
    """The order that a message's key names; None where it names none."""
    try:
        return UUID((key or b"").decode())
    except ValueError:
        return None


def request_of(message: Message) -> str:
    """The id of the request that the message came from; `-` of one that is Malformed."""
    return getattr(message.value, "requestId", "-")


def order_of(message: Message) -> UUID:
    """The order that a message which is not Malformed speaks of."""
    return event_of(message).order_id
