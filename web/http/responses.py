"""JSON answers, and the entity tag of an order."""

from typing import Any

import orjson
from aiohttp import web


def json_response(
    value: Any, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return `value` as an application/json answer."""
    return web.Response(
        status=status, body=orjson.dumps(value), content_type="application/json", headers=headers
    )


def etag(order: dict[str, Any]) -> str:
    """Return the order's version as an entity tag (RFC 9110)."""
    return f'"{order["version"]}"'
