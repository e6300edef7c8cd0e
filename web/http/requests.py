"""What requests carry besides body and query: identity, ids of paths, Idempotency-Key, If-Match."""

import re
from uuid import UUID

from aiohttp import web

from app import bearer_tokens, settings
from app.db.rows import IdempotencyKey
from app.errors import Forbidden, InvalidInput, Problem, Unauthorized
from app.idempotency import MAX_KEY_LENGTH, expiry, fingerprint
from app.identity.tokens import Identity
from app.ids import read_id
from web.http.body_reading import unpacked_body

_INSIDE = f"[ !#-~]{{0,{MAX_KEY_LENGTH - 2}}}"
KEY = re.compile(f'"([ -~]{{1,{MAX_KEY_LENGTH}}})"|([!#-~](?:{_INSIDE}[!#-~])?)')
"""An Idempotency-Key, quoted or bare. HTTP strips spaces around a header's value, so a bare key
neither begins nor ends with one (RFC 9110, 5.5)."""
_TAG = r'(?:W/)?"[!#-~]*"'
TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
"""A list of entity tags (RFC 9110, 5.6.1 and 8.8.3)."""
FORMS = {"Last-Event-ID": ("[0-9]{1,9}", "the id of an event of this stream")}
"""The pattern, and what it stands for, of declared headers for which not every text is valid."""


def bearer_token(request: web.BaseRequest) -> str:
    """Return the request's bearer token, which is empty if there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def authenticate(request: web.Request) -> Identity:
    """Return the identity in the bearer token. Raises Unauthorized."""
    if token := bearer_token(request):
        return bearer_tokens.read(token)
    raise Unauthorized


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


def check_header(request: web.Request, name: str) -> None:
    """Raise InvalidInput if the request has the header, but not as FORMS says."""
    if name in FORMS and name in request.headers:
        pattern, meaning = FORMS[name]
        if not re.fullmatch(pattern, request.headers[name]):
            raise InvalidInput.of("#", f"{name} must be {meaning}")


def key_name(request: web.Request) -> str | None:
    """Return the text of the Idempotency-Key, if there is one. Raises InvalidInput."""
    headers = request.headers.getall("Idempotency-Key", [])
    if len(headers) > 1:
        raise InvalidInput.of("#", "Idempotency-Key must be given once")
    if not headers:
        return None
    match = KEY.fullmatch(headers[0])
    if match is None:
        raise InvalidInput.of("#", "Idempotency-Key must be 1 to 255 printable ASCII characters")
    return match[1] or match[2]


async def idempotency_key(request: web.Request, user: Identity) -> IdempotencyKey | None:
    """Return the Idempotency-Key, if any, with the request's fingerprint. Raises InvalidInput."""
    name = key_name(request)
    if name is None:
        return None
    return IdempotencyKey(
        user_id=user.id,
        key=name,
        fingerprint=fingerprint(
            request.method, request.path, request.query_string, await unpacked_body(request)
        ),
        expires_at=expiry(settings.idempotency_ttl_seconds),
    )


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
    # aiohttp gives a bare * and the tag "*" the same value.
    if request.headers.get("If-None-Match") == "*":
        return True
    return tag.strip('"') in {known.value for known in request.if_none_match or ()}
