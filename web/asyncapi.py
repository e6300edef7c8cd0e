"""The AsyncAPI 3 document, generated from the Records, their topics and the agents that read them.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from collections.abc import Iterable
from inspect import getdoc
from typing import Any, cast

import faust
from pydantic import create_model
from pydantic.json_schema import models_json_schema

from app.outbox.rows import HEADER_NAMES
from app.topics import EVENTS, DeadLetter
from app.version import VERSION

Json = dict[str, Any]
RECORDS: tuple[type[faust.Record], ...] = (*EVENTS, DeadLetter)


def document(readers: Iterable[tuple[str, str]]) -> Json:
    """Return the whole document; `readers` are (agent name, topic) pairs."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Orders",
            "version": VERSION,
            "description": "The events of the order lifecycle, one topic a type, keyed by the "
            "order's id; CloudEvents 1.0 in binary mode.",
        },
        "defaultContentType": "application/json",
        # Anyone may read this: it does not tell where the brokers are.
        "servers": {
            "kafka": {
                "host": "{broker}",
                "protocol": "kafka",
                "variables": {"broker": {"description": "One of KAFKA_BROKERS"}},
            }
        },
        "channels": {_topic(record): _channel(record) for record in RECORDS},
        "operations": {
            **{f"publish.{_topic(record)}": _operation("send", record) for record in RECORDS},
            **{
                name: _operation("receive", record)
                for name, topic in readers
                for record in RECORDS
                if _topic(record) == topic
            },
        },
        "components": {
            "messages": {record.__name__: _message(record) for record in RECORDS},
            "schemas": _schemas(),
        },
    }


def _topic(record: type[faust.Record]) -> str:
    return str(cast(Any, record).topic_name)


def _channel(record: type[faust.Record]) -> Json:
    name = record.__name__
    return {
        "address": _topic(record),
        "title": name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _operation(action: str, record: type[faust.Record]) -> Json:
    channel = f"#/channels/{_topic(record)}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{record.__name__}"}],
    }


def _message(record: type[faust.Record]) -> Json:
    message: Json = {
        "name": record.__name__,
        "summary": (getdoc(record) or "").splitlines()[0],
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in HEADER_NAMES},
            "required": list(HEADER_NAMES),
        },
        "payload": {"$ref": f"#/components/schemas/{record.__name__}"},
    }
    if record is DeadLetter:
        return message
    key: Json = {"type": "string", "format": "uuid", "description": "The order's id"}
    return message | {"bindings": {"kafka": {"key": key}}}


def _schemas() -> Json:
    models = [_model(record) for record in RECORDS]
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    return dict(schemas["$defs"])


def _model(record: type[faust.Record]) -> Any:
    options = record._options
    fields = {
        name: (kind, options.defaults[name] if name in options.optionalset else ...)
        for name, kind in options.fields.items()
    }
    return create_model(record.__name__, __doc__=getdoc(record), **cast(Any, fields))
