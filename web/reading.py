"""How a body is read: its bytes within limits, its numbers exact, every bad field named."""

import asyncio
import json
import zlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from aiohttp import web
from pydantic import ValidationError

from app.errors import (
    BodyTooSlow,
    FieldError,
    InvalidInput,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from web.bodies import Body

OWN_WORDS = {
    "missing": "is required",
    "model_type": "must be a JSON object",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "extra_forbidden": "is not known here",
    "enum": "must be one of {expected}",
}
"""Where pydantic's message speaks of Python, or of the wrong thing."""

IN_FRAGMENTS = "!$&'()*+,;=:@"
"""What stands in a fragment as it is, besides letters, digits and `-._~` (RFC 3986, 3.5)."""

PACKED_AS = {"gzip", "x-gzip", "deflate"}
"""What a Content-Encoding may name (RFC 9110, 8.4.1)."""
ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
BODY_SECONDS = 10.0
"""For 64 KiB at most; past that, whoever sends it only holds a connection."""

T = TypeVar("T", bound=Body)


async def read(request: web.Request, shape: type[T]) -> T:
    """The request's body as `shape`. Raises InvalidInput naming every bad field."""
    return validate(shape, parse(await raw(request), request.content_type))


async def read_if_any(request: web.Request, shape: type[T]) -> T:
    """The same, of a body that may be left out. Raises InvalidInput naming every bad field."""
    body = await raw(request)
    return validate(shape, parse(body, request.content_type) if body else {})


async def raw(request: web.Request) -> bytes:
    """The body's bytes, unpacked. Raises InvalidInput, UnsupportedMediaType, BodyTooSlow.

    When they are too many, PayloadTooLarge before they are read, or HTTP 413 while they are.
    """
    if (request.content_length or 0) > request.client_max_size:
        raise PayloadTooLarge
    body = await _received(request)
    packing = request.headers.get("Content-Encoding", "identity").strip().lower()
    if packing == "identity" or not body:
        return body
    if packing not in PACKED_AS:
        raise UnsupportedMediaType
    return _unpacked(body, request.client_max_size)


async def _received(request: web.Request) -> bytes:
    try:
        if request.can_read_body:
            async with asyncio.timeout(BODY_SECONDS):
                return await request.read()
        return await request.read()
    except TimeoutError:
        raise BodyTooSlow from None
    except web.RequestPayloadError:
        raise InvalidInput.of("#", "The body did not arrive whole") from None


def _unpacked(body: bytes, most: int) -> bytes:
    """Raises InvalidInput, or PayloadTooLarge before there are more than `most` bytes and one."""
    unpacker = zlib.decompressobj(ZLIB_OR_GZIP)
    try:
        whole = unpacker.decompress(body, most + 1)
    except zlib.error:
        whole = b""
    if len(whole) > most:
        raise PayloadTooLarge
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidInput.of("#", "The body does not unpack as its Content-Encoding")
    return whole


def parse(body: bytes, content_type: str) -> Any:
    """The JSON value, its numbers exact. Raises InvalidInput, UnsupportedMediaType."""
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise UnsupportedMediaType
    try:
        return json.loads(body.decode(), parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, ArithmeticError, RecursionError):
        raise InvalidInput.of("#", "The body is not valid JSON") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def validate(shape: type[T], value: Any) -> T:
    """The value as `shape`. Raises InvalidInput naming every bad field."""
    if not isinstance(value, dict):
        raise InvalidInput.of("#", "The body must be a JSON object")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(field_errors(error)) from None


def field_errors(error: ValidationError) -> list[FieldError]:
    """What pydantic found, in words for the client, field by field."""
    return [_field_error(problem) for problem in error.errors()]


def _field_error(problem: Any) -> FieldError:
    own = OWN_WORDS.get(problem["type"])
    # Pydantic's message may quote the client: it is no template.
    told = own.format(**problem.get("ctx", {})) if own else problem["msg"]
    return FieldError(told.removeprefix("Value error, "), pointer(problem["loc"]))


def pointer(path: Iterable[object]) -> str:
    """Where a value stands: a JSON pointer as a URI fragment (RFC 6901, sections 3 and 6)."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "#/" + "/".join(quote(part, safe=IN_FRAGMENTS, errors="replace") for part in parts)
