"""What a pool does about a worker or a server that stands still."""

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from app.db.errors import AWAY
from app.db.leadership import leadership
from app.db.pools import Database
from app.db.queries import sql
from tests.chaos.proxy import Proxy
from tests.chaos.waiting import until

UNANSWERED = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
SESSIONS = "select count(*) from pg_stat_activity where application_name = 'still'"


async def test_a_transaction_that_stands_still_is_ended_by_the_server(database: Database) -> None:
    """A worker whose process is stopped would hold up the orders that it has locked."""
    still = Database(database._dsn, 1, "still", idle_in_transaction_session_timeout="100ms")
    await still.open()
    is_ended = False
    with pytest.raises(AWAY):
        async with still.transaction(), database.connection() as other:
            while await other.fetchval(SESSIONS):
                pass
            is_ended = True
    assert is_ended
    await still.close()


async def test_a_connection_notices_that_the_servers_machine_is_gone(database: Database) -> None:
    """No timeout of asyncpg's counts for each message: the kernel has to give up."""
    async with database.connection() as pooled:
        assert pooled._transport.get_extra_info("socket").getsockopt(*UNANSWERED) == 15_000
    alone = await database.connect()
    assert alone._transport.get_extra_info("socket").getsockopt(*UNANSWERED) == 15_000
    await alone.close()


@pytest.fixture
async def silent_first(environment: dict[str, str]) -> AsyncIterator[tuple[str, list[str]]]:
    """A URL whose first host takes connections and says nothing, and a list of them."""
    came: list[str] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append("a connection")
        await reader.read()
        writer.close()

    url = urlsplit(environment["DB_URL"])
    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        silent = f"@127.0.0.1:{server.sockets[0].getsockname()[1]},"
        yield url._replace(netloc=url.netloc.replace("@", silent)).geturl(), came


async def test_who_has_no_time_left_for_a_silent_host_spares_it_the_others(
    silent_first: tuple[str, list[str]],
) -> None:
    """As those who have waited long for one of the pool's connections."""
    url, came = silent_first
    database = Database({"dsn": url}, 1)
    await database.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), database.connection():
            pass
    async with database.connection() as connection:
        assert await connection.fetchval("select 1") == 1
    await database.close()
    assert len(came) == 1


async def test_a_timeout_tells_that_postgresql_is_meant(
    silent_first: tuple[str, list[str]], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has no more than the error, and its reader has to learn which server is away."""
    monkeypatch.setattr("app.db.connecting.CONNECT_SECONDS", 0.2)
    url = urlsplit(silent_first[0])
    silent = Database({"dsn": url._replace(netloc=url.netloc.rpartition(",")[0]).geturl()}, 1)
    with pytest.raises(TimeoutError, match="PostgreSQL"):
        await silent.connect()
    with pytest.raises(TimeoutError, match="PostgreSQL"):
        async with database.connection() as connection:
            await connection.execute("select pg_sleep(60)", timeout=0.1)
    leading = leadership(database, sql.try_to_audit, 1.0, "a leader")
    with pytest.raises(TimeoutError, match="PostgreSQL"):
        async with leading as connection:
            await connection.execute("select pg_sleep(60)", timeout=0.1)


async def test_a_statement_that_nobody_waits_for_ends(database: Database) -> None:
    """It is not cancelled, since it may be one that commits."""
    impatient = Database(database._dsn, 1, "impatient")
    await impatient.open()
    with pytest.raises(TimeoutError):
        async with impatient.connection() as connection:
            await connection.execute("select pg_sleep(600)", timeout=0.1)

    async def is_gone() -> bool:
        sessions = "select count(*) from pg_stat_activity where application_name = 'impatient'"
        async with database.connection() as connection:
            return bool(await connection.fetchval(sessions) == 0)

    await until(is_gone, "the server notices it")
    await impatient.close()


async def test_where_one_host_is_silent_the_next_is_asked(
    silent_first: tuple[str, list[str]],
) -> None:
    """As after a failover, when the former primary's machine has vanished."""
    url, came = silent_first
    database = Database({"dsn": url}, 2)
    await database.open()
    async with database.connection() as first, database.connection() as second:
        assert await first.fetchval("select 1") + await second.fetchval("select 2") == 3
    connection = await database.connect()
    assert await connection.fetchval("select pg_is_in_recovery()") is False
    await connection.close()
    await database.close()
    assert len(came) == 1, "the others began with the host that answers"


@pytest.fixture
async def stalling_first(environment: dict[str, str]) -> AsyncIterator[tuple[str, Proxy]]:
    """A URL of two hosts, and the first one, which may be stalled."""
    url = urlsplit(environment["DB_URL"])
    assert url.port
    proxy = Proxy(asyncio.get_running_loop(), lambda: url.port or 0)
    await proxy.open()
    both = url.netloc.replace("@", f"@127.0.0.1:{proxy.port},")
    yield url._replace(netloc=both).geturl(), proxy
    await proxy.close()


async def test_once_another_host_takes_its_place_nobody_waits_for_the_former(
    stalling_first: tuple[str, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be back, and tell what was true before the failover."""
    monkeypatch.setattr("app.db.connecting.CONNECT_SECONDS", 0.4)
    url, former = stalling_first
    database, seldom_used = Database({"dsn": url}, 1), Database({"dsn": url}, 1)
    seldom_used.hosts = database.hosts
    await seldom_used.open()
    async with seldom_used.connection() as connection:
        assert await connection.fetchval("select 1") == 1
    leader = await database.connect()
    former.stall()
    await (await database.connect()).close()
    assert leader.is_closed()
    async with seldom_used.connection() as connection:
        assert await connection.fetchval("select 2", timeout=1) == 2
    await seldom_used.close()


async def test_a_host_that_was_given_up_is_too_late_with_its_answer(
    stalling_first: tuple[str, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new primary's connections are not ended for it."""
    url, former = stalling_first
    database = Database({"dsn": url}, 1)
    former.stall()
    monkeypatch.setattr("app.db.connecting.CONNECT_SECONDS", 0.4)
    first = asyncio.create_task(database.connect())
    await asyncio.sleep(0)  # it begins, and will give the former host up
    monkeypatch.setattr("app.db.connecting.CONNECT_SECONDS", 60.0)
    late = asyncio.create_task(database.connect())
    connection = await first
    former.flow()
    await (await late).close()
    assert await connection.fetchval("select 1") == 1
    await connection.close()


async def test_it_may_stand_still_for_as_long_as_a_consumer(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("show idle_in_transaction_session_timeout") == "10s"
