"""What a pool does about a worker or a server that stands still."""

import asyncio

import pytest

from app.db import AWAY, Database

SESSIONS = "select count(*) from pg_stat_activity where application_name = 'still'"


async def test_a_transaction_that_stands_still_is_ended_by_the_server(database: Database) -> None:
    """A worker whose process is stopped would hold up the orders that it has locked."""
    still = Database(database._dsn, 1, "still", idle_in_transaction_session_timeout="100ms")
    await still.open()
    with pytest.raises(AWAY):
        async with still.transaction(), database.connection() as other, asyncio.timeout(20):
            while await other.fetchval(SESSIONS):
                pass
    await still.close()


async def test_it_may_stand_still_for_as_long_as_a_consumer(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("show idle_in_transaction_session_timeout") == "10s"
