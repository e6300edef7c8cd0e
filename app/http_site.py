"""How this service listens for HTTP: Faust's web server, for many connections at once."""

import asyncio
import os
from socket import socket
from typing import Any, cast

from aiohttp.web import TCPSite
from faust.web.drivers.aiohttp import Web

ACCEPTORS = 16
"""How many connections are accepted in one round of the event loop."""
MAX_CONNECTING = 1024
"""The listen backlog. When it is full (aiohttp's default is 128), a client's kernel retries after
one second, and then after two more (RFC 6298, section 2)."""
FOR_REQUESTS = 0.4
"""The share of SHUTDOWN_GRACE_SECONDS for requests in flight, after the worker has left its group.
"""
FAUST_PAGES = "/faust/"


class Site(TCPSite):
    """A listening port that accepts up to ACCEPTORS connections in each round of the event loop.

    libuv accepts one for each listening handle. Under load, rounds take long, and new connections
    would wait for seconds; so the port's socket has several handles.
    """

    async def start(self) -> None:
        self._others: list[asyncio.Server] = []
        await super().start()
        for one in cast(asyncio.Server, self._server).sockets:
            for _ in range(ACCEPTORS - 1):
                self._others.append(await self._listen(socket(fileno=os.dup(one.fileno()))))

    async def _listen(self, at: socket) -> asyncio.Server:
        server = cast(Any, self._runner.server)
        return await asyncio.get_running_loop().create_server(
            server, sock=at, ssl=self._ssl_context, backlog=self._backlog
        )

    async def stop(self) -> None:
        await super().stop()
        for other in self._others:
            other.close()


class OrderWeb(Web):
    """Faust's web server with a Site, and with Faust's own pages only where they are asked for."""

    # The front page is our own (web/health.py). Faust's pages are served only if configured, below
    # FAUST_PAGES, and only to administrators (web/http/middlewares.py).
    def _enabled_blueprints(self) -> list[tuple[str, Any]]:
        if not cast(Any, self.app).settings.faust_pages:
            return []
        return [
            (FAUST_PAGES, "faust.web.apps.stats:blueprint"),
            (f"{FAUST_PAGES}router", "faust.web.apps.router:blueprint"),
            (f"{FAUST_PAGES}table", "faust.web.apps.tables.blueprint"),
        ]

    def _new_transport_tcp(self) -> TCPSite:
        return Site(
            self._runner,
            self.app.conf.web_bind,
            self.app.conf.web_port,
            backlog=MAX_CONNECTING,
            ssl_context=self.app.conf.web_ssl_context,
        )
