"""What requests carry besides body and query: identity, Idempotency-Key, If-Match, cursors."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from aiohttp import web

from app import bearer_tokens, settings
from app.errors import Forbidden, InvalidInput, Problem, Unauthorized
from app.idempotency import MAX_KEY_LENGTH, expiry, fingerprint
from app.ids import read_id
from app.rows import Key
from app.text import flaw
from app.tokens import Identity
from web.reading import raw

_INSIDE = f"[ !#-~]{{0,{MAX_KEY_LENGTH - 2}}}"
KEY = re.compile(f'"([ -~]{{1,{MAX_KEY_LENGTH}}})"|([!#-~](?:{_INSIDE}[!#-~])?)')
"""An Idempotency-Key, quoted or bare. HTTP strips spaces around a header's value, so a bare key
neither begins nor ends with one (RFC 9110, 5.5)."""
_TAG = r'(?:W/)?"[!#-~]*"'
TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
"""A list of entity tags (RFC 9110, 5.6.1 and 8.8.3)."""


def json_response(
    value: Any, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return `value` as an application/json answer."""
    return web.Response(
        status=status, body=orjson.dumps(value), content_type="application/json", headers=headers
    )


def authenticate(request: web.Request) -> Identity:
    """Return the identity in the bearer token. Raises Unauthorized."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized
    return bearer_tokens.read(token.strip())


def authenticate_admin(request: web.Request) -> Identity:
    """Return the identity of an administrator. Raises Unauthorized, Forbidden."""
    identity = authenticate(request)
    if not identity.is_admin:
        raise Forbidden("Only an administrator may do this")
    return identity


def path_id(text: str, not_found: type[Problem]) -> UUID:
    """Return the UUID in a path. Raises `not_found` if it is not a UUID, as nothing has that id."""
    try:
        return read_id(text)
    except ValueError:
        raise not_found from None


async def idempotency_key(request: web.Request, user: Identity) -> Key | None:
    """Return the Idempotency-Key, if any, with the request's fingerprint. Raises InvalidInput."""
    headers = request.headers.getall("Idempotency-Key", [])
    if len(headers) > 1:
        raise InvalidInput.of("#", "Idempotency-Key must be given once")
    if not headers:
        return None
    match = KEY.fullmatch(headers[0])
    if match is None:
        raise InvalidInput.of("#", "Idempotency-Key must be 1 to 255 printable ASCII characters")
    return Key(
        user_id=user.id,
        key=match[1] or match[2],
        fingerprint=fingerprint(
            request.method, request.path, request.query_string, await raw(request)
        ),
        expires_at=expiry(settings.idempotency_ttl_seconds),
    )


def etag(order: dict[str, Any]) -> str:
    """Return the order's version as an entity tag (RFC 9110)."""
    return f'"{order["version"]}"'


def required_versions(request: web.Request) -> frozenset[int] | None:
    """Return the versions listed in If-Match, of which the order must have one; None allows any.

    Weak tags, and tags that are not ours, match nothing (RFC 9110, 13.1.1). Raises InvalidInput.
    """
    header = ", ".join(request.headers.getall("If-Match", ["*"]))
    if header == "*":
        return None
    if not TAGS.fullmatch(header):
        raise InvalidInput.of("#", 'If-Match must be * or a list of ETags, such as "1"')
    return frozenset(int(tag) for tag in re.findall(r'(?<!W/)"([1-9][0-9]{0,8})"', header))


def is_known(request: web.Request, tag: str) -> bool:
    """Return whether If-None-Match lists the tag (RFC 9110, 13.1.2): the client has the answer."""
    return bool({tag.strip('"'), "*"} & {known.value for known in request.if_none_match or ()})


def to_cursor(filters: list[str | None], place: list[str]) -> str:
    """Return an opaque cursor: the place of the last entry, bound to the filters."""
    return base64.urlsafe_b64encode(orjson.dumps([filters, place])).decode().rstrip("=")


def from_cursor(text: str | None, filters: list[str | None]) -> list[str] | None:
    """Return the place in a cursor, if one is given. Raises InvalidInput."""
    if text is None:
        return None
    with bad_cursor():
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        bound_to, place = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if bound_to != filters or [type(part) for part in place] != [str, str]:
            raise ValueError
        if flaw(place[0]):
            raise ValueError
        return list(place)


@contextmanager
def bad_cursor() -> Iterator[None]:
    """Turn errors caused by a bad cursor into InvalidInput."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, asyncpg.DataError):
        raise InvalidInput.of("#/cursor", "is not a cursor of this list") from None


def page(
    entries: list[tuple[dict[str, Any], list[str]]], limit: int, filters: list[str | None]
) -> dict[str, Any]:
    """Return a page of up to `limit` entries, each of which is given with its place in the list.

    `entries` has one more than `limit` if there is a next page.
    """
    more = len(entries) > limit
    data = [entry for entry, _ in entries[:limit]]
    next_cursor = to_cursor(filters, entries[limit - 1][1]) if more else None
    return {"data": data, "hasMore": more, "nextCursor": next_cursor}
