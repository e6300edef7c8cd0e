"""Work that one worker of all does: who holds PostgreSQL's advisory lock for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from app.db import Database

Ask = Callable[[asyncpg.Connection], Awaitable[bool]]
"""Tries to take the lock; whether it has it."""


@asynccontextmanager
async def leadership(
    database: Database, ask: Ask, seconds: float, name: str, **settings: str
) -> AsyncIterator[asyncpg.Connection]:
    """Begins once `ask` has taken the lock; it is tried every so many seconds.

    On a connection of its own, called `name`; the lock ends with it. Raises one of AWAY.
    """
    connection = await database.connect(
        command_timeout=10,
        application_name=name,
        # A leader whose machine is gone must not keep the lock for hours.
        tcp_keepalives_idle="5",
        tcp_keepalives_interval="2",
        tcp_keepalives_count="3",
        **settings,
    )
    try:
        await _win(connection, ask, seconds)
        yield connection
    finally:
        connection.terminate()


async def _win(connection: asyncpg.Connection, ask: Ask, seconds: float) -> None:
    """Ask until it is ours.

    A statement that waits for the lock would hold a snapshot, and with it every dead row.
    """
    while True:
        if await ask(connection):
            return
        await asyncio.sleep(seconds)
