"""Decode a message's bytes to its topic's Record, or to Malformed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import faust
import orjson
from faust.models.fields import FloatField, IntegerField, StringField
from faust.types import AppT, Message

from app.ids import parse_id
from app.text import MAX_ERROR, is_request_id
from app.topics import Event

NO_EVENT = (ValueError, TypeError, AttributeError, LookupError)
"""What `read_event` raises for a value that is not an event of its topic."""

SCALARS: dict[type, tuple[type, ...]] = {
    StringField: (str,),
    IntegerField: (int,),
    FloatField: (float,),
}
"""The types in JSON by the kind of a Record's field; other kinds hold objects or lists."""


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
    shape = _shape_of(cast(Any, record))
    event = _as_written(record, shape, data) or _converted(record, shape, data)
    for field in shape.ids:
        parse_id(getattr(event, field))
    if event.sequence < 1:
        raise ValueError("sequence must be positive")
    # It stands in each line of the log, and in what follows from the event.
    if not is_request_id(event.requestId):
        raise ValueError("requestId must be 1 to 128 printable ASCII characters")
    return event


class _Shape(NamedTuple):
    """What is known of a Record's fields."""

    types: dict[str, tuple[type, ...]]
    """The types that each field may have in JSON; a required field may not be null."""
    defaults: dict[str, Any]
    """The values of optional fields that are missing."""
    ids: Sequence[str]
    """The fields that must be UUIDs."""


@cache
def _shape_of(record: Any) -> _Shape:
    types: dict[str, tuple[type, ...]] = {}
    for name, descriptor in record._options.descriptors.items():
        own = SCALARS.get(type(descriptor), (list, dict))
        types[name] = own if descriptor.required else (*own, type(None))
    ids = [name for name in ("eventId", "orderId", "paymentId") if name in types]
    return _Shape(types, record._options.defaults, ids)


def _as_written(record: type[Event], shape: _Shape, data: Any) -> Event | None:
    """Return the event if each field has its type, so that Faust has nothing to convert.

    Faust would take each field through four calls.
    """
    if type(data) is not dict:
        return None
    values: dict[str, Any] = {"__evaluated_fields__": set(), **shape.defaults}
    for name, allowed in shape.types.items():
        value = data.get(name)
        if type(value) not in allowed:
            return None
        if value is not None:
            values[name] = value
    event = record.__new__(record)
    event.__dict__ = values
    return event


def _converted(record: type[Event], shape: _Shape, data: Any) -> Event:
    # Otherwise a message could choose the class by its `__faust` field, or replace methods.
    known = {name: data[name] for name in shape.types if name in data}
    event = record.from_data(known)
    # Faust reads a null as the text "None".
    if any(data[name] is None for name in shape.types if name not in shape.defaults):
        raise ValueError("a required field is null")
    return event
