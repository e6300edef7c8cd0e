"""Read request bodies: size and time limits, exact numbers, and errors for every bad field."""

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from aiohttp import web
from pydantic import ValidationError

from app.errors import BodyTooSlow, FieldError, InvalidInput, PayloadTooLarge, UnsupportedMediaType
from app.text import storable_error
from web.shapes.bodies import Body

OWN_WORDS = {
    "missing": "is required",
    "model_type": "must be a JSON object",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "extra_forbidden": "is not known here",
    "enum": "must be one of {expected}",
    "uuid_type": "must be a UUID",
}
"""Replacements for pydantic messages that speak of Python or mislead."""

IN_FRAGMENTS = "!$&'()*+,;=:@"
"""The characters not escaped in a fragment, besides letters, digits, `-._~` (RFC 3986, 3.5)."""

SUPPORTED_ENCODINGS = {"gzip", "x-gzip", "deflate"}
"""The supported values of Content-Encoding (RFC 9110, 8.4.1)."""
ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
MAX_NAMES = 100
"""The most fields of an object, or parameters of a query: each unknown one is an error."""
BODY_SECONDS = 10.0
"""How long a body may take to arrive; a slower client only occupies a connection."""

T = TypeVar("T", bound=Body)


async def read(request: web.Request, shape: type[T]) -> T:
    """Read the request's body as `shape`; without a body, as an empty object.

    Raises InvalidInput naming every bad field.
    """
    body = await unpacked_body(request)
    return validate(shape, parse(body, request.content_type) if body else {})


async def unpacked_body(request: web.Request) -> bytes:
    """Return the decompressed body. Raises InvalidInput, UnsupportedMediaType, BodyTooSlow.

    For a body that is too large, raises PayloadTooLarge by its declared or decompressed size, or
    aiohttp's 413 while it is read.
    """
    body, encoding = await received_body(request), content_encoding(request)
    if encoding == "identity" or not body:
        return body
    if encoding not in SUPPORTED_ENCODINGS:
        raise UnsupportedMediaType
    return _unpacked(body, request.client_max_size)


def content_encoding(request: web.Request) -> str:
    """Return the request's Content-Encoding; `identity` is none."""
    return request.headers.get("Content-Encoding", "identity").strip().lower()


async def received_body(request: web.Request) -> bytes:
    """Return the body as it came, maybe compressed. Raises InvalidInput, BodyTooSlow.

    For a body that is too large, raises PayloadTooLarge by its declared size, or aiohttp's 413
    while it is read.
    """
    if (request.content_length or 0) > request.client_max_size:
        raise PayloadTooLarge
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise BodyTooSlow from None
    except (web.RequestPayloadError, ConnectionError):
        raise InvalidInput.of("#", "The body arrived incomplete") from None


def _unpacked(body: bytes, most: int) -> bytes:
    """Decompress the body. Raises InvalidInput, or PayloadTooLarge beyond `most` bytes.

    At most `most` + 1 bytes are decompressed.
    """
    unpacker = zlib.decompressobj(ZLIB_OR_GZIP)
    try:
        whole = unpacker.decompress(body, most + 1)
    except zlib.error:
        whole = b""
    if len(whole) > most:
        raise PayloadTooLarge
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidInput.of("#", "The body cannot be unpacked as its Content-Encoding says")
    return whole


def parse(body: bytes, content_type: str) -> Any:
    """Parse JSON, with non-integers as Decimal. Raises InvalidInput, UnsupportedMediaType.

    A name that an object has twice is refused, because others might read its other value.
    """
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise UnsupportedMediaType
    try:
        return json.loads(
            body.decode(),
            parse_float=Decimal,
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except (ValueError, ArithmeticError, RecursionError):
        raise InvalidInput.of("#", "The body is not valid JSON") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(members)
    if len(named) < len(members):
        [(name, _)] = Counter(name for name, _ in members).most_common(1)
        raise InvalidInput.of("#", f'The body has "{storable_error(name)}" twice in one object')
    return named


def validate(shape: type[T], value: Any) -> T:
    """Validate the value as `shape`. Raises InvalidInput naming every bad field."""
    if not isinstance(value, dict):
        raise InvalidInput.of("#", "The body must be a JSON object")
    if len(value) > MAX_NAMES:
        raise InvalidInput.of("#", f"The body must have at most {MAX_NAMES} fields")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(field_errors(error)) from None


def field_errors(error: ValidationError) -> list[FieldError]:
    """Convert pydantic's errors to messages for the client, one per field."""
    return [_field_error(problem) for problem in error.errors()]


def _field_error(problem: Any) -> FieldError:
    own = OWN_WORDS.get(problem["type"])
    # Pydantic's message may quote the client's input, so it must not be used as a template.
    message = own.format(**problem.get("ctx", {})) if own else problem["msg"]
    return FieldError(message.removeprefix("Value error, "), pointer(problem["loc"]))


def pointer(path: Iterable[object]) -> str:
    """Return a value's place: a JSON pointer as a URI fragment (RFC 6901, sections 3 and 6)."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "#/" + "/".join(quote(part, safe=IN_FRAGMENTS, errors="replace") for part in parts)
