"""A client that does not read its answer."""

import asyncio
import socket
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest
from aiohttp import web

from web.http import protocol

BODY = bytes(8_000_000)


async def sip(client: socket.socket) -> None:
    """Read a byte now and then."""
    client.setblocking(False)
    with suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(client, 1):
            await asyncio.sleep(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_USER_TIMEOUT")
async def test_a_client_that_does_not_read_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = web.RequestHandler.pause_writing
    monkeypatch.setattr(protocol._Protocol, "pause_writing", usual)
    await assert_that_a_client_is_cut_off(monkeypatch, reads=False)


async def test_a_client_that_reads_a_byte_now_and_then_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "sys", SimpleNamespace(platform="without TCP_USER_TIMEOUT"))
    await assert_that_a_client_is_cut_off(monkeypatch, reads=True)


async def assert_that_a_client_is_cut_off(monkeypatch: pytest.MonkeyPatch, reads: bool) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.5)
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
        sipping = asyncio.create_task(sip(client)) if reads else None
        async with asyncio.timeout(30):
            await ended.wait()
        if sipping:
            sipping.cancel()
            await asyncio.wait([sipping])
    listening.close()
    await server.shutdown()
