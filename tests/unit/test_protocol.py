"""A client that does not read its answer."""

import asyncio
import socket
import sys
from types import SimpleNamespace

import pytest
from aiohttp import web

from web import protocol

BODY = bytes(8_000_000)


@pytest.mark.parametrize("platform", [sys.platform, "one without TCP_USER_TIMEOUT"])
async def test_a_client_that_does_not_read_loses_its_connection(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer ends it where the kernel does not, which sees a client that reads now and then."""
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "sys", SimpleNamespace(platform=platform))
    ended = asyncio.Event()

    class Watched(protocol._Protocol):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            ended.set()

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=BODY)

    server = web.Server(answer)
    listening = await asyncio.get_running_loop().create_server(
        lambda: Watched(server, loop=asyncio.get_running_loop()), "127.0.0.1", 0
    )
    with socket.create_connection(listening.sockets[0].getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n")
        async with asyncio.timeout(30):
            await ended.wait()
    listening.close()
    await server.shutdown()
