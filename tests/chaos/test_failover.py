"""PostgreSQL's primary is killed under load, and its synchronous standby takes its place."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.db.connecting import DEAD_PEERS, READ_ONLY
from app.db.pools import Database
from devstack.postgres import Postgres
from tests.chaos.audit import audit, count
from tests.chaos.deployment import Deployment, start_again
from tests.chaos.load import customers
from tests.chaos.standby import SYNCHRONOUS, Standby
from tests.chaos.test_kills import is_down
from tests.chaos.waiting import until

MADE = "from pg_class where relname in ('in_a_transaction', 'alone')"


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


async def test_a_promoted_standby_has_every_order(deployment: Deployment, standby: Standby) -> None:
    """The workers find it by themselves; the former primary, which is named first, is gone."""
    workers = [await deployment.start_ready_worker(), await deployment.start_ready_worker()]
    async with customers(deployment, orders=300, rate=20) as load:
        await load.reaches(0.3)
        deployment.stack.postgres.kill()
        await until(lambda: is_down(deployment), "a worker says that it is down")
        await standby.promote()
        deployment.stack.postgres = standby
    assert all(worker.alive for worker in workers)
    await audit(deployment, load.ends)


async def test_a_commit_that_the_standby_lacks_is_seen_by_nobody(
    deployment: Deployment, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a repeated request would be answered with what a failover loses."""
    monkeypatch.setattr("app.db.pools.COMMAND_SECONDS", 0.5)
    monkeypatch.setitem(DEAD_PEERS, "client_connection_check_interval", "50ms")
    database = Database({"dsn": deployment.database}, 1)
    await database.open()
    standby.kill()
    with pytest.raises(TimeoutError):
        async with database.transaction() as transaction:
            await transaction.connection.execute("create table in_a_transaction ()")
    with pytest.raises(TimeoutError):
        async with database.connection() as connection:
            await connection.execute("create table alone ()")
    assert await count(deployment, f"select count(*) {MADE}") == 0
    await start_again(standby)
    await until(lambda: count(deployment, f"select (count(*) = 2)::int {MADE}"), "both are there")
    await database.close()


async def test_who_only_reads_asks_the_primary(deployment: Deployment, standby: Standby) -> None:
    """A former primary that is back as a standby may lack what has been committed since."""
    database = Database({"dsn": both(standby, deployment.stack.postgres)}, 1)
    connection = await database.connect(**READ_ONLY)
    assert await connection.fetchval("select pg_is_in_recovery()") is False
    await connection.close()


def both(first: Postgres, second: Postgres) -> str:
    """Return the URL that names these two hosts."""
    return first.url.replace("/orders", f",127.0.0.1:{second.port}/orders")
