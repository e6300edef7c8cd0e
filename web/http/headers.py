"""Headers of every answer, errors and streams included.

They are added just before an answer is sent, because a middleware would be too late for a stream.
Strict-Transport-Security is not among them, because the worker serves plain HTTP; the proxy that
terminates TLS has to add it (RFC 6797, section 7.2).
"""

from aiohttp import web

REQUEST_ID = "X-Request-Id"
SERVED_AS = web.RequestKey("served_as", str)
"""The key under which a request stores its id."""

SERVER = "faust-orders"
USUAL = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Defaults for handlers that set nothing else: uncached JSON (OWASP REST Security Cheat Sheet)."""


def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add the request's id, and the usual headers that the handler has not set."""
    for name, value in USUAL.items():
        response.headers.setdefault(name, value)
    # aiohttp has named itself and Python, with their versions.
    response.headers["Server"] = SERVER
    if id := request.get(SERVED_AS):
        response.headers[REQUEST_ID] = id


async def before_sending(request: web.Request, response: web.StreamResponse) -> None:
    """Call `add_headers`, as an aiohttp signal handler."""
    add_headers(request, response)
