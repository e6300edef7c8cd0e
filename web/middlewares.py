"""The middlewares and signals of every request and answer, outermost first."""

from typing import cast

from aiohttp import web
from faust.web.drivers.aiohttp import Web

from app import app, settings
from web.addresses import ForwardedFor
from web.headers import before_sending
from web.monitor import count_answers, only_administrators
from web.origins import allow_origins
from web.problems import answer_problems


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
