"""Decode a message's bytes to its topic's Record, or to Malformed."""

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import faust
import orjson
from faust.types import AppT, Message

from app.ids import parse_id
from app.text import MAX_ERROR
from app.topics import Event

NO_EVENT = (ValueError, TypeError, AttributeError, LookupError)
"""What `read_event` raises for a value that is not an event of its topic."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The value of a message whose bytes could not be read as its topic's Record."""

    error: str


class EventSchema(faust.Schema[Any, Any]):
    """Decodes to the topic's Record or to Malformed: Faust acknowledges what fails to decode."""

    def loads_value(self, app: AppT, message: Message, **_: Any) -> Event | Malformed:
        """Return the message's Record, or Malformed; never raise."""
        try:
            return read_event(cast(type[Event], self.value_type), message.value or b"")
        except NO_EVENT as error:
            # The error may quote the whole message.
            return Malformed(f"{type(error).__name__}: {error}"[:MAX_ERROR])


def read_event(record: type[Event], value: bytes) -> Event:
    """Read a `record` from `value` (JSON); unknown fields are ignored.

    Raises one of NO_EVENT if the value is not such an event.
    """
    data = orjson.loads(value)
    # Without preferred_type, a message could choose the class by its `__faust` field.
    event = record.from_data(data, preferred_type=record)
    required, ids = _checked_fields(cast(Any, record))
    # Faust reads a null as the text "None".
    if None in [data[field] for field in required]:
        raise ValueError("a required field is null")
    for field in ids:
        parse_id(getattr(event, field))
    if event.sequence < 1:
        raise ValueError("sequence must be positive")
    return event


@cache
def _checked_fields(record: Any) -> tuple[list[str], list[str]]:
    """Return the names of the fields that must not be null, and of those that are UUIDs."""
    fields = record._options.fields.keys()
    required = fields - record._options.optionalset
    return list(required), list(fields & {"eventId", "orderId", "paymentId"})
