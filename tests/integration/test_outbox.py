"""The outbox: in partitions that come and go, and relayed past what the broker refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaConnectionError

from app import flights, intervention, migrate, outbox, outbox_rows
from app.db import Database
from app.intervention import Actor
from app.outbox import Relay
from app.parked import page
from app.queries import sql
from app.times import now
from tests.integration.hops import add_product, cancel, order_of

BOSS = Actor("boss@example.com", "the limit was raised", "a request")
LONG_AGO = datetime(2001, 5, 31, 23, 30, tzinfo=UTC)
INSERT = """
    insert into outbox (event_id, topic, order_id, sequence, request_id, occurred_at, payload,
        published_at)
    values ($1, 'order.paid', $2, $3, 'r', $4, '{}', $5) returning id
"""
LIE_IN = "select tableoid::regclass::text from outbox where order_id = $1 order by sequence"


@pytest.fixture
async def empty(environment: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """A database of its own with the schema, where nothing is sent."""
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
    """An event of that moment; its id."""
    order_id, sequence = known.get("order_id", uuid4()), known.get("sequence", 1)
    return int(
        await connection.fetchval(
            INSERT, uuid4(), order_id, sequence, moment, moment if sent else None
        )
    )


async def partitions(connection: asyncpg.Connection) -> set[str]:
    """The names of the outbox's partitions."""
    query = "select inhrelid::regclass::text from pg_inherits where inhparent = 'outbox'::regclass"
    return {row[0] for row in await connection.fetch(query)}


async def test_this_month_and_the_next_have_partitions(empty: asyncpg.Connection) -> None:
    this = now()
    coming = {f"{this + timedelta(days=days):outbox_%Y_%m}" for days in (0, 31, 62, 90)}
    assert coming <= await partitions(empty)
    before = await partitions(empty)
    await sql.make_outbox_partitions(empty, now=this)
    assert await partitions(empty) == before


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


async def test_what_is_old_is_dropped_once_all_of_it_is_sent(empty: asyncpg.Connection) -> None:
    await empty.execute("select make_outbox_partition($1)", LONG_AGO)
    waiting = await add(empty, LONG_AGO, sent=False)
    young = await add(empty, now())
    end = datetime(2001, 6, 1, tzinfo=UTC)
    assert await sql.drop_outbox_partitions(empty, before=end) == 0
    await empty.execute("update outbox set published_at = now() where id = $1", waiting)
    assert await sql.drop_outbox_partitions(empty, before=end - timedelta(seconds=1)) == 0
    assert await sql.drop_outbox_partitions(empty, before=end) == 1
    assert "outbox_2001_05" not in await partitions(empty)
    assert [row["id"] for row in await empty.fetch("select id from outbox")] == [young]


async def test_the_events_of_an_older_version_are_kept_as_they_were(
    empty: asyncpg.Connection, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await empty.execute("drop schema public cascade; create schema public")
    dsn = environment["DB_URL"].replace("/orders", "/outbox_alone")
    whole = migrate._migrations()
    old = {name: text for name, text in whole.items() if name < "0004"}
    monkeypatch.setattr(migrate, "_migrations", lambda: old)
    await migrate.migrate_database(Database({"dsn": dsn}, 1), "PLN")
    for moment, sent in ((LONG_AGO, True), (now(), False)):
        await add(empty, moment, sent)
    before = await empty.fetch("select * from outbox order by id")
    monkeypatch.setattr(migrate, "_migrations", lambda: whole)
    await migrate.migrate_database(Database({"dsn": dsn}, 1), "PLN")
    assert await empty.fetch("select * from outbox order by id") == before
    assert await add(empty, now()) > before[-1]["id"]
    assert "outbox_2001_05" in await partitions(empty)


async def test_the_relay_finds_what_waits_by_its_index(empty: asyncpg.Connection) -> None:
    """Also when it was planned without knowing the parameters, as the relay's statements are."""
    for n in range(2000):
        await add(empty, now(), sent=n % 100 != 0)
    await empty.execute("analyze outbox; set plan_cache_mode = force_generic_plan")
    taken = await sql.mark_and_take(
        empty,
        sent_orders=[],
        sent_sequences=[],
        since=None,
        until=None,
        held=[uuid4()],
        batch=1000,
    )
    assert len(taken) == 20
    await empty.execute(f"prepare take as {sql.mark_and_take.sql}")
    plan = await empty.fetch(
        "explain (analyze, costs off, timing off) execute take('{}', '{}', null, null, '{}', 10)"
    )
    told = "\n".join(row[0] for row in plan)
    assert "Merge Append" in told and "Seq Scan" not in told, told


@asynccontextmanager
async def relaying(environment: dict[str, str], database: Database) -> AsyncIterator[Relay]:
    """A relay at work."""
    relay = Relay(environment["KAFKA_BROKERS"].split(","), database)
    work = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


async def leads(relay: Relay) -> None:
    """Wait until the relay has the lead."""
    async with asyncio.timeout(30):
        while relay._flights is None:
            await asyncio.sleep(0.05)


@pytest.fixture
async def elsewhere(database: Database, environment: dict[str, str]) -> AsyncIterator[Database]:
    """What another worker, which does not lead, commits with."""
    elsewhere = Database(database._dsn, 2)
    relay = Relay(environment["KAFKA_BROKERS"].split(","), database)
    elsewhere.after_commit = [relay.after_commit]
    await elsewhere.open()
    yield elsewhere
    await elsewhere.close()


class Unreachable:
    """A producer whose machine cannot reach the brokers."""

    client = SimpleNamespace(cluster=ClusterMetadata())

    async def send(self, *_: object, **__: object) -> asyncio.Future[None]:
        raise KafkaConnectionError("no way")


class Dead:
    """A producer that takes everything and sends nothing."""

    client = SimpleNamespace(cluster=ClusterMetadata())

    async def send(self, *_: object, **__: object) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


async def published(database: Database, order_id: UUID) -> list[bool]:
    """Of each of the order's events, in sequence, whether it is sent."""
    query = "select published_at is not null from outbox where order_id = $1 order by sequence"
    async with database.connection() as connection:
        return [row[0] for row in await connection.fetch(query, order_id)]


async def comes(database: Database, order_id: UUID, wanted: list[bool]) -> None:
    """Wait until so much of the order is sent."""
    async with asyncio.timeout(30):
        while await published(database, order_id) != wanted:
            await asyncio.sleep(0.05)


async def cancelled_order(database: Database) -> UUID:
    """An order of two events."""
    order_id = await order_of(database, {await add_product(database): 1})
    await cancel(database, order_id)
    return order_id


async def test_what_another_worker_commits_is_sent_as_it_is_told(
    database: Database,
    elsewhere: Database,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 0)  # looks find nothing
    async with relaying(environment, database) as leader:
        await leads(leader)
        await comes(database, await cancelled_order(elsewhere), [True, True])


async def test_what_is_too_long_to_be_told_is_looked_for_at_once(
    database: Database,
    elsewhere: Database,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_rows, "LONGEST_TOLD", 100)
    looked, look = asyncio.Event(), Relay._look

    async def note(*arguments: Any) -> None:
        looked.set()
        await look(*arguments)

    monkeypatch.setattr(Relay, "_look", note)
    async with relaying(environment, database) as leader:
        await leads(leader)
        monkeypatch.setattr(outbox, "SWEEP_SECONDS", 3600)
        looked.clear()
        await looked.wait()  # the last time that the relay looks unasked
        await comes(database, await cancelled_order(elsewhere), [True, True])


async def test_an_event_that_the_broker_refuses_is_parked_and_holds_up_its_order_alone(
    database: Database, environment: dict[str, str]
) -> None:
    bad, other = await cancelled_order(database), await cancelled_order(database)
    swell = "update outbox set payload = $2::json where order_id = $1 and sequence = 1"
    async with database.connection() as connection:
        query = "select payload from outbox where order_id = $1 and sequence = 1"
        payload = await connection.fetchval(query, bad)
        await connection.execute(swell, bad, payload[:-1] + f', "more": "{"x" * 2_000_000}"}}')
    async with relaying(environment, database):
        await comes(database, other, [True, True])
        (told, _), *more = await page(database, "relay", bad, None, None, 10)
        assert not more and "MessageSizeTooLarge" in told["error"]
        assert await published(database, bad) == [False, False]
        async with database.connection() as connection:
            await connection.execute(swell, bad, payload)
        await intervention.replay(database, UUID(told["id"]), BOSS, dry_run=False)
        await comes(database, bad, [True, True, True])


async def test_a_topic_that_cannot_be_written_leaves_room_for_all_others(
    database: Database, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 20)
    monkeypatch.setattr(flights, "MOST_UNDER_WAY", 50)
    monkeypatch.setattr(flights, "MOST_OF_A_PARTITION", 10)
    stuck = """
        insert into outbox (event_id, topic, order_id, sequence, request_id, occurred_at, payload)
        select gen_random_uuid(), 'no.such.topic', gen_random_uuid(), 1, 'r', now(), '{}'
        from generate_series(1, 200)
    """
    async with database.connection() as connection:
        await connection.execute(stuck)
        try:
            other = await cancelled_order(database)
            async with relaying(environment, database):
                await comes(database, other, [True, True])
        finally:
            await connection.execute("delete from outbox where topic = 'no.such.topic'")


@pytest.mark.parametrize("producer", [Unreachable(), Dead()])
async def test_a_leader_that_cannot_send_gives_up_the_lead(
    database: Database,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    producer: object,
) -> None:
    @asynccontextmanager
    async def broken(_: Relay) -> AsyncIterator[object]:
        yield producer

    order_id = await cancelled_order(database)
    with monkeypatch.context() as patch:
        patch.setattr(Relay, "_producer", broken)
        leader = Relay(environment["KAFKA_BROKERS"].split(","), database)
        leading = asyncio.create_task(leader.run())
        await leads(leader)
    # From here on it is only the producer of the first that is broken.
    monkeypatch.setattr(outbox, "SILENT_SECONDS", 0.5)
    try:
        async with relaying(environment, database):
            await comes(database, order_id, [True, True])
    finally:
        leading.cancel()
        with suppress(asyncio.CancelledError):
            await leading


async def test_a_producer_whose_flush_hangs_does_not_run_on(
    database: Database, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STOP_SECONDS", 0.2)
    relay = Relay(environment["KAFKA_BROKERS"].split(","), database)
    async with relay._producer() as producer:
        inside = cast(Any, producer)
        monkeypatch.setattr(inside._message_accumulator, "close", asyncio.Event().wait)
    assert inside._sender.sender_task.done()
    assert inside.client._sync_task is None


async def test_a_discarded_event_is_not_sent_and_its_order_goes_on(
    database: Database, environment: dict[str, str]
) -> None:
    bad = await cancelled_order(database)
    async with database.connection() as connection:
        await connection.execute(
            "update outbox set topic = 'no topic!' where order_id = $1 and sequence = 1", bad
        )
    async with relaying(environment, database):
        async with asyncio.timeout(60):
            while not (found := await page(database, "relay", bad, None, None, 10)):
                await asyncio.sleep(0.05)
        await intervention.discard(database, UUID(found[0][0]["id"]), BOSS)
        await comes(database, bad, [True, True, True])
