"""CORS: pages of the origins in CORS_ORIGINS may send requests and read answers.

Faust's own `web_cors_options` would drop every PATCH route.
"""

from aiohttp import web
from aiohttp_middlewares.cors import cors_middleware

from web.http.headers import REQUEST_ID
from web.http.problems import Handler

ALLOWED_HEADERS = (
    "accept",
    "authorization",
    "content-encoding",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "traceparent",
    "tracestate",  # nothing reads it, but pages that are traced send it with traceparent
    REQUEST_ID.lower(),
)
EXPOSED_HEADERS = ("etag", "location", "retry-after", "www-authenticate", REQUEST_ID.lower())
PREFLIGHT_SECONDS = 600


def allow_origins(application: web.Application, origins: list[str]) -> None:
    """Let pages of these origins, or of all if they are `*`, send requests and read answers."""
    anyone = origins == ["*"]
    cors = cors_middleware(
        allow_all=anyone,
        origins=origins,
        allow_methods=("GET", "POST", "PATCH"),
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        max_age=PREFLIGHT_SECONDS,
    )

    @web.middleware
    async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await cors(request, handler) if _is_preflight(request) else await handler(request)

    async def before_sending(request: web.Request, response: web.StreamResponse) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return response

        if not anyone:
            response.headers.add("Vary", "Origin")
        # Not in the middleware, which would be too late for a stream.
        if not _is_preflight(request):
            await cors(request, answer)

    application.middlewares.append(answer_preflights)
    application.on_response_prepare.append(before_sending)


def _is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
