"""Statements are planned anew from time to time, since tables grow."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.db import pools
from app.db.pools import Database

PREPARED = """
    select prepare_time from pg_prepared_statements where statement like '%pg_prepared_statements%'
"""


@pytest.fixture(params=["pooled", "of_its_own"])
async def connection(
    request: pytest.FixtureRequest, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncpg.Connection]:
    """A connection that keeps plans only briefly."""
    monkeypatch.setattr(pools, "PLAN_SECONDS", 0.1)
    other = Database(database._dsn, 1)
    if request.param == "pooled":
        await other.open()
        async with other.connection() as connection:
            yield connection
        await other.close()
    else:
        connection = await other.connect()
        yield connection
        await connection.close()


@pytest.mark.timeout(30)
async def test_a_connection_plans_its_statements_anew(connection: asyncpg.Connection) -> None:
    first = await connection.fetchval(PREPARED)
    while await connection.fetchval(PREPARED) == first:
        pass
