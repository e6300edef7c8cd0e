"""Headers that every answer carries, errors and streams included.

They are added when an answer is about to be sent: a middleware would come too late for a stream.
Strict-Transport-Security is not among them, because the worker speaks plain HTTP; it belongs to
the proxy that speaks TLS (RFC 6797, section 7.2).
"""

from aiohttp import web

REQUEST_ID = "X-Request-Id"
SERVED_AS = web.RequestKey("served_as", str)
"""The request's id, for as long as the request lives."""

USUAL = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""What a handler that does not say otherwise answers: JSON, for one reader (OWASP, REST)."""


def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """The request's id, and the usual headers where the handler has set none of its own."""
    for name, value in USUAL.items():
        response.headers.setdefault(name, value)
    if id := request.get(SERVED_AS):
        response.headers[REQUEST_ID] = id


async def before_sending(request: web.Request, response: web.StreamResponse) -> None:
    """`add_headers`, as a signal of aiohttp's."""
    add_headers(request, response)
