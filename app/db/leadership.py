"""Leader election: one worker at a time does the work, by holding a PostgreSQL advisory lock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from app.db.connecting import name_the_server
from app.db.pools import Database

Ask = Callable[[asyncpg.Connection], Awaitable[bool]]
"""Tries to take the lock without waiting; returns whether it did."""


@asynccontextmanager
async def leadership(
    database: Database, ask: Ask, seconds: float, name: str, **settings: str
) -> AsyncIterator[asyncpg.Connection]:
    """Run the body as the leader, once `ask` has taken the lock; try again every `seconds`.

    The lock is held on a connection of its own, with `name` as its application_name, and ends with
    it. Raises one of AWAY.
    """
    connection = await database.connect(command_timeout=10, application_name=name, **settings)
    try:
        await _win(connection, ask, seconds)
        yield connection
    except TimeoutError as error:
        name_the_server(error)
        raise
    finally:
        connection.terminate()


async def _win(connection: asyncpg.Connection, ask: Ask, seconds: float) -> None:
    """Poll until this worker has the lock.

    A statement that waits for the lock would hold a snapshot, which keeps dead rows from vacuum.
    """
    while True:
        if await ask(connection):
            return
        await asyncio.sleep(seconds)
