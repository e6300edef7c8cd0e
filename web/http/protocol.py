"""Answer errors that occur before any handler or middleware runs as problem+json, too."""

import asyncio
import logging
import socket
import sys
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from faust.web.drivers.aiohttp import Web

from app import app, settings
from app.http_site import FOR_REQUESTS
from web.http.headers import SERVED_AS, add_headers
from web.http.problems import http_problem, problem_response, with_request_id

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 75.0
"""How long a connection may be silent, or a request's head incomplete. aiohttp's own is an hour."""

UNREAD_SECONDS = 75.0
"""How long a client may leave bytes of an answer unread or unacknowledged, and how long it may take
to read what is more than asyncio's buffer (64 KiB)."""


class _Protocol(RequestHandler):
    __slots__ = ("_read_limit",)

    _read_limit: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have the kernel end the connection of a client that does not read (tcp(7)).

        aiohttp would hold the connection, and what is left of its answer, for as long.
        """
        super().connection_made(transport)
        self._read_limit = None
        connection = transport.get_extra_info("socket")
        if sys.platform == "linux":  # others have no such option
            limit = int(UNREAD_SECONDS * 1000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)

    def pause_writing(self) -> None:
        """Give the client time to read; one that reads a byte now and then would take forever."""
        super().pause_writing()
        transport = cast(asyncio.WriteTransport, self.transport)
        self._read_limit = self._loop.call_later(UNREAD_SECONDS, transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._read_limit is not None:
            self._read_limit.cancel()
            self._read_limit = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP: log one line, and close the connection."""
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        answer = _problem(request, status)
        id = request[SERVED_AS]
        log.info("Refused what is not HTTP: %s", type(exc).__name__, extra={"request_id": id})
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Any:
        """Translate an HTTPException, which comes this far only from outside the middlewares."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = _problem(request, resp.status)
        return await super().finish_response(request, resp, start_time)


def _problem(request: web.BaseRequest, status: int) -> web.Response:
    with with_request_id(request):
        answer = problem_response(request, http_problem(status))
    # Without an application, no signal adds the headers.
    add_headers(request, answer)
    return answer


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        usual = await super()._make_server()
        return _Server(
            usual.request_handler,
            request_factory=usual.request_factory,
            loop=usual._loop,
            **usual._kwargs,
        )


_web = cast(Web, app.web)
_web._runner = _Runner(
    _web.web_app,
    access_log=None,
    keepalive_timeout=KEEPALIVE_SECONDS,
    # web.http.body_reading decompresses: aiohttp's parser reports a body that it cannot decompress
    # as a request that is not HTTP.
    auto_decompress=False,
    shutdown_timeout=settings.shutdown_grace_seconds * FOR_REQUESTS,
)
