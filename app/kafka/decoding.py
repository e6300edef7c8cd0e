"""How a message's bytes become its topic's Record, or Malformed."""

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import faust
import orjson
from faust.types import AppT, Message

from app.topics import Event, uuid_of

NO_EVENT = (ValueError, TypeError, AttributeError, LookupError)
"""What `read_event` raises for a value that is no event of its topic."""
MAX_ERROR = 500
"""Characters of what is told of it."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands where an event should be: the bytes could not be read as its Record."""

    error: str


class EventSchema(faust.Schema[Any, Any]):
    """Decodes to the topic's Record, or to Malformed: Faust acknowledges what fails to decode."""

    def loads_value(self, app: AppT, message: Message, **_: Any) -> Event | Malformed:
        """The message's Record. Never raises."""
        try:
            return read_event(cast(type[Event], self.value_type), message.value or b"")
        except NO_EVENT as error:
            # What it quotes may be as long as the message.
            return Malformed(f"{type(error).__name__}: {error}"[:MAX_ERROR])


def read_event(record: type[Event], value: bytes) -> Event:
    """The `record` that `value` (JSON) holds; unknown fields are ignored.

    Raises one of NO_EVENT when it holds none.
    """
    data = orjson.loads(value)
    # Not whatever class its `__faust` names, which other applications of Faust write.
    event = record.from_data(data, preferred_type=record)
    required, ids = _checked_fields(cast(Any, record))
    # Faust would read a null as the text "None".
    if None in [data[field] for field in required]:
        raise ValueError("a required field is null")
    for field in ids:
        uuid_of(getattr(event, field))
    if event.sequence < 1:
        raise ValueError("sequence must be positive")
    return event


@cache
def _checked_fields(record: Any) -> tuple[list[str], list[str]]:
    """Those that must not be null, and those that are UUIDs."""
    fields = record._options.fields.keys()
    required = fields - record._options.optionalset
    return list(required), list(fields & {"eventId", "orderId", "paymentId"})
