"""PostgreSQL has a primary and a synchronous standby."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.db.connecting import READ_ONLY
from app.db.pools import Database
from devstack.postgres import Postgres
from tests.chaos.audit import count
from tests.chaos.deployment import Deployment
from tests.chaos.standby import SYNCHRONOUS, Standby
from tests.chaos.waiting import until


@pytest.fixture
async def standby(deployment: Deployment, tmp_path: Path) -> AsyncIterator[Standby]:
    """A standby for which commits wait; workers know both addresses, the primary's first."""
    primary = deployment.stack.postgres
    standby = Standby(tmp_path / "standby", primary)
    deployment.environment["DB_URL"] = both(primary, standby)
    try:
        standby.start()
        await deployment.change("alter system set synchronous_standby_names = '*'")
        await deployment.change("select pg_reload_conf()")
        await until(lambda: count(deployment, SYNCHRONOUS), "commits wait for the standby")
        yield standby
    finally:
        standby.kill()


async def test_who_only_reads_asks_the_primary(deployment: Deployment, standby: Standby) -> None:
    """A former primary that is back as a standby may lack what has been committed since."""
    database = Database({"dsn": both(standby, deployment.stack.postgres)}, 1)
    connection = await database.connect(**READ_ONLY)
    assert await connection.fetchval("select pg_is_in_recovery()") is False
    await connection.close()


def both(first: Postgres, second: Postgres) -> str:
    """Return the URL that names these two hosts."""
    return first.url.replace("/orders", f",127.0.0.1:{second.port}/orders")
