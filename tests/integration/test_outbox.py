"""The outbox: partitions are created and dropped, and the relay finds waiting events."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app import background
from app.db import pools
from app.db.pools import FEW_ROWS, Database
from app.db.queries import sql
from app.metrics import OUTBOX_AHEAD
from app.operations import migrate
from app.times import now, rfc3339
from tests.conftest import run_command

LONG_AGO = datetime(2001, 5, 31, 23, 30, tzinfo=UTC)
INSERT = """
    insert into outbox (event_id, topic, order_id, sequence, request_id, occurred_at, payload,
        published_at)
    values ($1, 'order.paid', $2, $3, 'r', $4, '{}', $5) returning id
"""
WAITS = "select exists (select from pg_locks where pid = $1 and not granted)"
LIE_IN = "select tableoid::regclass::text from outbox where order_id = $1 order by sequence"


@pytest.fixture
async def empty(environment: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """A separate database with the schema, where nothing is sent."""
    connection = await asyncpg.connect(environment["DB_URL"])
    await connection.execute("drop database if exists outbox_alone")
    await connection.execute("create database outbox_alone")
    await connection.close()
    dsn = environment["DB_URL"].replace("/orders", "/outbox_alone")
    await migrate.migrate_database(Database({"dsn": dsn}, 1), "PLN")
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def add(
    connection: asyncpg.Connection, moment: datetime, sent: bool = True, **known: Any
) -> int:
    """Add an event of that moment; return its id."""
    order_id, sequence = known.get("order_id", uuid4()), known.get("sequence", 1)
    return int(
        await connection.fetchval(
            INSERT, uuid4(), order_id, sequence, moment, moment if sent else None
        )
    )


async def plan_as_the_relay(connection: asyncpg.Connection) -> None:
    """Have the connection's statements planned as the relay's are."""
    for setting, value in FEW_ROWS.items():
        await connection.execute(f"set {setting} = {value}")


async def partitions(connection: asyncpg.Connection) -> set[str]:
    """Return the names of the outbox's partitions."""
    query = "select inhrelid::regclass::text from pg_inherits where inhparent = 'outbox'::regclass"
    return {row[0] for row in await connection.fetch(query)}


@pytest.fixture
async def timers(
    empty: asyncpg.Connection, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """A worker's pool for timers on that database; a statement may take half a second."""
    monkeypatch.setattr(pools, "COMMAND_SECONDS", 0.5)
    timers = Database({"dsn": environment["DB_URL"].replace("/orders", "/outbox_alone")}, 1)
    await timers.open()
    monkeypatch.setattr(background, "timer_pool", timers)
    yield timers
    await timers.close()


INSTEAD_OF_MAKING = """
    create or replace function make_outbox_partition(moment timestamptz) returns void
    language plpgsql as $$ begin {} end $$
"""


async def test_this_month_and_the_next_have_partitions(empty: asyncpg.Connection) -> None:
    this = now()
    coming = {f"{this + timedelta(days=days):outbox_%Y_%m}" for days in (0, 31, 62, 90)}
    assert coming <= await partitions(empty)
    before = await partitions(empty)
    await sql.make_outbox_partitions(empty)
    assert await partitions(empty) == before


async def test_what_waits_for_a_month_s_lock_holds_up_others_for_a_moment_only(
    empty: asyncpg.Connection, timers: Database
) -> None:
    told = "raise exception 'waits for %', current_setting('lock_timeout');"
    await empty.execute(INSTEAD_OF_MAKING.format(told))
    with pytest.raises(asyncpg.RaiseError, match="waits for 50ms"):
        await background._tend_outbox()


async def test_a_worker_tells_how_far_the_months_reach_that_it_has_made(
    empty: asyncpg.Connection, timers: Database
) -> None:
    last = max(name for name in await partitions(empty) if name != "outbox_other")
    await empty.execute(f"drop table {last}")
    await background._tend_outbox()
    [metric] = OUTBOX_AHEAD.collect()
    assert metric.samples[0].value == pytest.approx(await sql.outbox_days_ahead(empty), abs=0.01)


async def test_a_month_may_take_longer_than_other_statements(
    empty: asyncpg.Connection, timers: Database
) -> None:
    """Weeks of events may have to move there."""
    await empty.execute("alter database outbox_alone set statement_timeout = '500ms'")
    slow = "if moment = now() then perform pg_sleep(1); end if;"
    await empty.execute(INSTEAD_OF_MAKING.format(slow))
    await background._tend_outbox()


async def test_months_that_workers_cannot_make_are_told_and_made_by_migrate(
    empty: asyncpg.Connection, environment: dict[str, str]
) -> None:
    last = max(name for name in await partitions(empty) if name != "outbox_other")
    ahead = await sql.outbox_days_ahead(empty)
    assert 92 <= ahead < 124
    await empty.execute(f"drop table {last}")
    assert 28 <= ahead - await sql.outbox_days_ahead(empty) <= 31
    alone = environment["DB_URL"].replace("/orders", "/outbox_alone")
    run_command({**environment, "DB_URL": alone}, "migrate")
    assert last in await partitions(empty)


async def test_an_event_of_a_month_without_a_partition_is_kept_and_moves_to_it(
    empty: asyncpg.Connection,
) -> None:
    order_id = uuid4()
    await add(empty, LONG_AGO, order_id=order_id)
    await add(empty, LONG_AGO + timedelta(hours=1), order_id=order_id, sequence=2)
    assert await empty.fetchval(LIE_IN, order_id) == "outbox_other"
    await empty.execute("select make_outbox_partition($1)", LONG_AGO)
    lie_in = [row[0] for row in await empty.fetch(LIE_IN, order_id)]
    assert lie_in == ["outbox_2001_05", "outbox_other"]
    with pytest.raises(asyncpg.UniqueViolationError):
        await add(empty, LONG_AGO, order_id=order_id)


async def test_an_event_that_comes_while_its_month_is_made_lies_in_it(
    empty: asyncpg.Connection, environment: dict[str, str]
) -> None:
    month, order_id = f"outbox_{now():%Y_%m}", uuid4()
    await empty.execute(f"drop table {month}")
    other = await asyncpg.connect(environment["DB_URL"].replace("/orders", "/outbox_alone"))
    async with empty.transaction():
        await empty.execute("select make_outbox_partition(now())")
        adding = asyncio.create_task(add(other, now(), order_id=order_id))
        while not await empty.fetchval(WAITS, other.get_server_pid()):
            pass
    await adding
    assert await empty.fetchval(LIE_IN, order_id) == month
    await other.close()


async def test_what_is_old_is_dropped_once_all_of_it_is_sent(empty: asyncpg.Connection) -> None:
    await empty.execute("select make_outbox_partition($1)", LONG_AGO)
    waiting = await add(empty, LONG_AGO, sent=False)
    young = await add(empty, now())
    end = datetime(2001, 6, 1, tzinfo=UTC)
    assert await sql.drop_outbox_partitions(empty, kept=now() - end) == 0
    await empty.execute("update outbox set published_at = now() where id = $1", waiting)
    assert await sql.drop_outbox_partitions(empty, kept=now() - end + timedelta(seconds=1)) == 0
    assert await sql.drop_outbox_partitions(empty, kept=now() - end) == 1
    assert "outbox_2001_05" not in await partitions(empty)
    assert [row["id"] for row in await empty.fetch("select id from outbox")] == [young]


async def test_no_month_is_dropped_before_an_older_one(empty: asyncpg.Connection) -> None:
    months = [datetime(2001, month, 7, tzinfo=UTC) for month in (5, 6)]
    for month in months:
        await empty.execute("select make_outbox_partition($1)", month)
    waiting = await add(empty, months[0], sent=False)
    await add(empty, months[1])
    assert await sql.drop_outbox_partitions(empty, kept=timedelta(days=90)) == 0
    await empty.execute("update outbox set published_at = now() where id = $1", waiting)
    assert await sql.drop_outbox_partitions(empty, kept=timedelta(days=90)) == 2


async def test_the_relay_finds_what_waits_by_its_index(empty: asyncpg.Connection) -> None:
    for n in range(2000):
        await add(empty, now(), sent=n % 100 != 0)
    await empty.execute("analyze outbox")
    await plan_as_the_relay(empty)
    taken = await sql.mark_and_take(
        empty,
        sent_orders=[],
        sent_sequences=[],
        sent_times=[],
        excluded=[uuid4()],
        batch=1000,
    )
    assert len(taken) == 20
    await empty.execute(f"prepare take as {sql.mark_and_take.sql}")
    plan = await empty.fetch(
        "explain (analyze, costs off, timing off) execute take('{}', '{}', '{}', '{}', 10)"
    )
    told = "\n".join(row[0] for row in plan)
    assert "Merge Append" in told and "Seq Scan" not in told, told


async def test_what_was_sent_is_looked_up_one_by_one_also_in_a_new_system(
    empty: asyncpg.Connection,
) -> None:
    """Otherwise its first minutes' events would be compared with each other."""
    await plan_as_the_relay(empty)
    await empty.execute(f"prepare mark as {sql.mark_and_take.sql}")
    plan = await empty.fetch("explain (costs off) execute mark('{}', '{}', '{}', '{}', 10)")
    marks, _, _ = "\n".join(row[0] for row in plan).partition("Merge Append")
    partitions_looked_into = marks.count("Index Scan using outbox")
    assert partitions_looked_into == len(await partitions(empty))
    assert marks.count("(order_id = sent.order_id) AND (sequence") == partitions_looked_into, marks


async def test_the_age_of_what_waits_to_be_sent_is_known(empty: asyncpg.Connection) -> None:
    assert await sql.oldest_unsent_age(empty) == 0
    await add(empty, now() - timedelta(hours=1))
    await add(empty, now() - timedelta(minutes=5), sent=False)
    assert 300 <= await sql.oldest_unsent_age(empty) < 360


async def test_a_second_copy_is_not_marked_later_than_the_first(empty: asyncpg.Connection) -> None:
    id = await add(empty, now())
    (row,) = await empty.fetch("select * from outbox where id = $1", id)
    await sql.mark_and_take(
        empty,
        sent_orders=[row["order_id"]],
        sent_sequences=[row["sequence"]],
        sent_times=[rfc3339(row["occurred_at"])],
        excluded=[],
        batch=1,
    )
    assert await empty.fetchrow("select * from outbox where id = $1", id) == row
