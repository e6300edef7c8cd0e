"""Pages of other origins (CORS): those in CORS_ORIGINS may read answers; none where it is empty.

Faust's own `web_cors_options` would drop every PATCH route.
"""

from typing import cast

from aiohttp import web
from aiohttp_middlewares.cors import cors_middleware
from faust.web.drivers.aiohttp import Web

from app import app, settings
from web.headers import REQUEST_ID
from web.problems import Handler

ASKED = (
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "last-event-id",
    REQUEST_ID.lower(),
)
TOLD = ("etag", "location", "retry-after", REQUEST_ID.lower())
PREFLIGHT_SECONDS = 600

_anyone = settings.cors_origins == ["*"]
_cors = cors_middleware(
    allow_all=_anyone,
    origins=settings.cors_origins,
    allow_methods=("GET", "POST", "PATCH"),
    allow_headers=ASKED,
    expose_headers=TOLD,
    max_age=PREFLIGHT_SECONDS,
)


def _is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


@web.middleware
async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell a browser what it may send; it asks without a token."""
    if _is_preflight(request):
        return await _cors(request, handler)
    return await handler(request)


async def _before_sending(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of any other answer, at the time when those of a stream can still be set."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return response

    if not _anyone:
        response.headers.add("Vary", "Origin")
    if not _is_preflight(request):
        await _cors(request, answer)


if settings.cors_origins:
    _app = cast(Web, app.web).web_app
    _app.middlewares.append(answer_preflights)
    _app.on_response_prepare.append(_before_sending)
