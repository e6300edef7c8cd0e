"""What a request carries besides its body: who asks, under which key, and where in a list."""

import base64
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from app import settings, tokens
from app.errors import Forbidden, InvalidInput, Problem, StaleVersion, Unauthorized
from app.idempotency import Key, expiry, fingerprint
from app.money import to_minor
from app.tokens import Identity

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


def json_response(
    value: Any, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """`value` as an application/json answer."""
    return web.Response(
        status=status, body=orjson.dumps(value), content_type="application/json", headers=headers
    )


def authenticate(request: web.Request) -> Identity:
    """Who asks. Raises Unauthorized."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized
    return tokens.read(token.strip())


def authenticate_admin(request: web.Request) -> Identity:
    """The administrator who asks. Raises Unauthorized, Forbidden."""
    identity = authenticate(request)
    if not identity.is_admin:
        raise Forbidden("Only an administrator may do this")
    return identity


def path_id(text: str, not_found: type[Problem]) -> UUID:
    """The UUID in a path; what is none names nothing, so it is not found."""
    try:
        return UUID(text)
    except ValueError:
        raise not_found from None


async def idempotency_key(request: web.Request, user: Identity) -> Key | None:
    """The Idempotency-Key, bare or quoted, with the request's fingerprint. Raises InvalidInput."""
    header = request.headers.get("Idempotency-Key")
    if header is None:
        return None
    match = re.fullmatch(r'"([\x20-\x7e]{1,255})"|([\x21\x23-\x7e]{1,255})', header)
    if match is None:
        raise InvalidInput.of("#", "Idempotency-Key must be 1 to 255 printable ASCII characters")
    return Key(
        user_id=user.id,
        key=match[1] or match[2],
        fingerprint=fingerprint(
            request.method, request.path, request.query_string, await request.read()
        ),
        expires_at=expiry(settings.idempotency_ttl_seconds),
    )


def etag(order: dict[str, Any]) -> str:
    """The order's version as an entity tag (RFC 9110)."""
    return f'"{order["version"]}"'


def required_version(request: web.Request) -> int | None:
    """The version that If-Match asks for; None for any. Raises StaleVersion for no version."""
    header = request.headers.get("If-Match", "*").strip()
    if header == "*":
        return None
    match = re.fullmatch(r'"([0-9]{1,9})"', header)
    if match is None:
        raise StaleVersion
    return int(match[1])


def query_amount(request: web.Request) -> int | None:
    """Minor units of `amount` in the query, if any. Raises InvalidInput."""
    text = request.query.get("amount")
    if text is None:
        return None
    try:
        return to_minor(Decimal(text) if re.fullmatch(r"-?[0-9.]{1,40}", text) else None)
    except InvalidOperation:
        raise InvalidInput.of("#/amount", "must be a number") from None
    except ValueError as error:
        raise InvalidInput.of("#/amount", str(error)) from None


def page_limit(request: web.Request) -> int:
    """How many entries a page may have: 1 to 100. Raises InvalidInput."""
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise InvalidInput.of("#/limit", "must be a whole number from 1 to 100")
    return min(int(text), MAX_LIMIT)


def to_cursor(filters: list[str | None], place: list[str]) -> str:
    """An opaque cursor: the place behind the last entry, bound to the filters."""
    return base64.urlsafe_b64encode(orjson.dumps([filters, place])).decode().rstrip("=")


def from_cursor(request: web.Request, filters: list[str | None]) -> list[str] | None:
    """The place that the request's cursor tells, if it has one. Raises InvalidInput."""
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        bound_to, place = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if bound_to != filters or [type(part) for part in place] != [str, str]:
            raise ValueError
        UUID(place[1])
        return list(place)
    except (ValueError, TypeError):
        raise InvalidInput.of("#/cursor", "is not a cursor of this list") from None


def moment(text: str) -> datetime:
    """The time in a cursor. Raises InvalidInput."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput.of("#/cursor", "is not a cursor of this list") from None


def page(entries: list[dict[str, Any]], limit: int, cursor: Any) -> dict[str, Any]:
    """A page of up to `limit` of the entries, of which one more was read to see if there is more.

    `cursor` makes the cursor behind an entry.
    """
    data = entries[:limit]
    more = len(entries) > limit
    return {"data": data, "hasMore": more, "nextCursor": cursor(data[-1]) if more else None}
