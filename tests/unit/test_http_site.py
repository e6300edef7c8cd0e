"""New connections are accepted many at a time, however long the rounds of the event loop take."""

import asyncio
from contextlib import ExitStack
from socket import create_connection, create_server

import pytest
import uvloop
from aiohttp import web

from app.http_site import ACCEPTORS, Site

CLIENTS = 4 * ACCEPTORS


async def answer(_: web.BaseRequest) -> web.Response:
    return web.Response()


async def rounds_until_all_are_accepted() -> int:
    """Return after how many rounds of the event loop all clients have a connection."""
    server, rounds = web.Server(answer), 0
    runner = web.ServerRunner(server)
    await runner.setup()
    site = Site(runner, "127.0.0.1", 0, backlog=CLIENTS)
    await site.start()
    with ExitStack() as clients:
        for _ in range(CLIENTS):
            clients.enter_context(create_connection(("127.0.0.1", site.port)))
        while len(server.connections) < CLIENTS:
            await asyncio.sleep(0)
            rounds += 1
    await runner.cleanup()
    return rounds


def test_connections_do_not_wait_for_a_round_each() -> None:
    assert uvloop.run(rounds_until_all_are_accepted()) < CLIENTS / 2


async def port_after_stop() -> bool:
    """Return whether anybody still listens once the site was stopped."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = Site(runner, "127.0.0.1", 0)
    await site.start()
    await runner.cleanup()
    try:
        create_connection(("127.0.0.1", site.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_nobody_listens_once_it_is_stopped() -> None:
    assert not uvloop.run(port_after_stop())


async def clean_up_after_a_port_in_use() -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        with pytest.raises(OSError, match="address already in use"):
            await Site(runner, "127.0.0.1", taken.getsockname()[1]).start()
        await runner.cleanup()


def test_a_port_in_use_is_the_only_error() -> None:
    uvloop.run(clean_up_after_a_port_in_use())
