"""Headers of requests and answers, as the OpenAPI document describes them."""

from collections.abc import Iterable
from typing import Any

from web.http.requests import KEY, TAGS

Json = dict[str, Any]

ANSWER_HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "The id of the request: the client's, where it sent a valid one, else the "
        "trace id of its `traceparent` (W3C Trace Context), else a new one",
        "required": True,
        "schema": {"type": "string", "pattern": "^[ -~]{1,128}$"},
    },
    "Location": {
        "description": "The address of what was created",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {
        "description": "The version of what is answered (RFC 9110), for If-None-Match; that of an "
        "order is its `version`, for If-Match",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]+"$'},
    },
    "Retry-After": {
        "description": "Seconds after which the same request may succeed, where that is known",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "The scheme to authenticate with (RFC 9110), and what is wrong with the "
        "token that was sent (RFC 6750)",
        "required": True,
        "schema": {"type": "string"},
    },
}

IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same request gets the first answer again, for 24 hours "
    "unless configured otherwise; with another request it is refused. Bare or quoted.",
    "schema": {"type": "string", "pattern": f"^(?:{KEY.pattern})$"},
}
IF_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "description": "`*`, or ETags (RFC 9110), of which the order must have one; weak ones never "
    "match",
    "schema": {"type": "string", "pattern": rf"^(?:\*|{TAGS.pattern})$"},
}
EVERY_REQUEST: list[Json] = [
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "The id that the request is to have in answers, logs and events: 1 to 128 "
        "printable ASCII characters, else it is replaced",
        "schema": {"type": "string"},
    },
    {
        "name": "traceparent",
        "in": "header",
        "description": "The trace that the request belongs to (W3C Trace Context): its id is the "
        "request's where `X-Request-Id` gives none",
        "schema": {"type": "string"},
    },
]
"""Headers that every request may have; no value is refused."""


def header_references(names: Iterable[str]) -> Json:
    """Return references to an answer's headers; every answer has the request's id."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}
