"""The middlewares and signals of every request and answer, outermost first."""

from time import monotonic
from typing import cast

from aiohttp import web
from faust.web.drivers.aiohttp import Web

from app import app, monitor, settings
from app.errors import NotFound
from app.http_site import FAUST_PAGES
from web.http.addresses import ForwardedFor
from web.http.endpoint import EVENT_STREAM
from web.http.headers import before_sending
from web.http.origins import allow_origins
from web.http.problems import Handler, answer_problems
from web.http.requests import authenticate_admin


@web.middleware
async def count_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count each answer by its status, for Faust's monitor, and how long all but streams took."""
    began = monotonic()
    try:
        answer = await handler(request)
    except web.HTTPException as redirect:
        monitor.answered(redirect.status, monotonic() - began)
        raise
    is_stream = answer.content_type == EVENT_STREAM
    monitor.answered(answer.status, None if is_stream else monotonic() - began)
    return answer


@web.middleware
async def only_administrators(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only administrators see Faust's own pages, where these are served.

    Faust answers an unknown table with its own 404 page or a KeyError; both become NotFound. So is
    a table's key: Faust asks the worker that the key's hash names, but an entry is at the one that
    has its order's partition (`tables/table.py`).
    """
    if not request.path.startswith(FAUST_PAGES):
        return await handler(request)
    authenticate_admin(request)
    if "key" in request.match_info:
        raise NotFound
    try:
        response = await handler(request)
    except KeyError:
        raise NotFound from None
    if response.status == NotFound.status:
        raise NotFound
    return response


async def _end_connections(request: web.Request, response: web.StreamResponse) -> None:
    """Close connections after their answer while the worker stops.

    A connection that stayed open could be closed while a new request is on its way.
    """
    if app.should_stop:
        response.headers["Connection"] = "close"
        response.force_close()


def surround(application: web.Application, origins: list[str], trusted_proxies: int) -> None:
    """Add the middlewares and signals to the application.

    The one that sets the request's id comes before those that clone requests, so that clones keep
    the id.
    """
    application.middlewares.extend((count_answers, answer_problems))
    application.on_response_prepare.extend((before_sending, _end_connections))
    if origins:
        allow_origins(application, origins)
    if trusted_proxies:
        application.middlewares.append(ForwardedFor(trusted_proxies).middleware)
    application.middlewares.append(only_administrators)


surround(cast(Web, app.web).web_app, settings.cors_origins, settings.trusted_proxies)
