"""Schema and topics are created once, and checked against what they were."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.db.errors import AWAY
from app.db.pools import Database
from app.db.queries import sql
from app.kafka.broker_access import Brokers
from app.operations import migrate
from app.operations.migrate import (
    CurrencyMismatch,
    MigrationChanged,
    TopicMismatch,
    create_topics,
    migrate_database,
)
from devstack.stack import Stack


@pytest.fixture
async def empty(environment: dict[str, str]) -> Database:
    """A separate database without a schema."""
    connection = await asyncpg.connect(environment["DB_URL"])
    await connection.execute("drop database if exists empty")
    await connection.execute("create database empty")
    await connection.close()
    return Database({"dsn": environment["DB_URL"].replace("/orders", "/empty")}, 4)


async def test_each_migration_is_applied_once(empty: Database) -> None:
    assert "0001_orders.sql" in await migrate_database(empty, "PLN")
    assert await migrate_database(empty, "PLN") == []


async def test_workers_that_relay_and_audit_hold_up_no_migration(empty: Database) -> None:
    worker = await empty.connect()
    assert await sql.try_to_lead(worker)
    assert await sql.try_to_audit(worker)
    assert await asyncio.wait_for(migrate_database(empty, "PLN"), 30)
    await worker.close()


async def test_who_works_while_a_column_is_added_has_to_try_again(empty: Database) -> None:
    """The statement was prepared for the table as it was; the next try prepares it anew."""
    await migrate_database(empty, "PLN")
    worker = await empty.connect()
    assert await sql.whole_orders(worker, ids=[uuid4()]) == []
    migration = await empty.connect()
    await migration.execute("alter table orders add column gift boolean")
    with pytest.raises(AWAY):
        async with worker.transaction():
            await sql.whole_orders(worker, ids=[uuid4()])
    async with worker.transaction():
        assert await sql.whole_orders(worker, ids=[uuid4()]) == []
    for connection in (worker, migration):
        await connection.close()


async def test_a_server_that_cannot_be_written_is_away(empty: Database) -> None:
    """A former primary that is back as a standby answers reads."""
    connection = await empty.connect()
    await connection.execute("alter database empty set default_transaction_read_only = on")
    await connection.close()
    with pytest.raises(AWAY):
        await empty.connect()
    await empty.open()
    with pytest.raises(AWAY):
        async with empty.connection():
            pass
    await empty.close()


async def test_a_limit_that_the_database_has_ends_no_connection_that_waits(empty: Database) -> None:
    connection = await empty.connect()
    for limit in ("idle_session_timeout", "statement_timeout"):
        await connection.execute(f"alter database empty set {limit} = '1s'")
    await connection.close()
    connection = await empty.connect()
    for limit in ("idle_session_timeout", "statement_timeout"):
        assert await connection.fetchval(f"show {limit}") == "0"
    await connection.close()


async def test_a_limit_that_the_database_has_ends_no_statement(empty: Database) -> None:
    """Its error would look like a server that is away, and batches would not get smaller."""
    connection = await empty.connect()
    await connection.execute("alter database empty set statement_timeout = '1s'")
    await connection.close()
    await empty.open()
    async with empty.connection() as connection:
        assert await connection.fetchval("show statement_timeout") == "0"
    await empty.close()


async def test_a_limit_of_transactions_is_waited_out(empty: Database) -> None:
    connection = await empty.connect()
    if connection.get_server_version().major < 17:
        await connection.close()
        pytest.skip("PostgreSQL has had this limit since 17")
    await connection.execute("alter database empty set transaction_timeout = '100ms'")
    await connection.close()
    await empty.open()
    with pytest.raises(AWAY):
        async with empty.transaction("slow") as transaction:
            await transaction.connection.execute("select pg_sleep(20)")
    await empty.close()


async def test_partitions_of_the_outbox_are_vacuumed_often(empty: Database) -> None:
    await migrate_database(empty, "PLN")
    connection = await empty.connect()
    await connection.execute("select make_outbox_partition('2020-01-15')")
    rare = """
        select relname from pg_inherits join pg_class on oid = inhrelid
        where inhparent = 'outbox'::regclass
          and not coalesce(reloptions, '{}') @> '{autovacuum_vacuum_scale_factor=0.01}'
    """
    assert await connection.fetch(rare) == []
    await connection.close()


async def test_a_changed_migration_is_refused(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate_database(empty, "PLN")
    changed = {name: text + "\n-- changed" for name, text in migrate._migrations().items()}
    monkeypatch.setattr(migrate, "_migrations", lambda: changed)
    with pytest.raises(MigrationChanged, match="add a new file"):
        await migrate_database(empty, "PLN")


async def test_a_migration_that_fails_leaves_nothing(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = {"0001_half.sql": "create table half (id int); select 1 / 0;"}
    monkeypatch.setattr(migrate, "_migrations", lambda: half)
    with pytest.raises(asyncpg.DivisionByZeroError) as failed:
        await migrate_database(empty, "PLN")
    assert failed.value.__notes__ == ["in 0001_half.sql"]
    connection = await empty.connect()
    assert await connection.fetchval("select to_regclass('half')") is None
    await connection.close()


async def test_connections_tell_what_they_are_for(environment: dict[str, str]) -> None:
    database = Database({"dsn": environment["DB_URL"]}, 4, "orders requests")
    await database.open()
    lasting = await database.connect(application_name="orders relay")
    async with database.connection() as connection:
        names = [await one.fetchval("show application_name") for one in (connection, lasting)]
    await lasting.close()
    await database.close()
    assert names == ["orders requests", "orders relay"]


async def test_topics_are_created_once_and_keep_their_partitions(
    stack: Stack, brokers: Brokers
) -> None:
    topics: dict[str, dict[str, str]] = {"test.migrate": {}}
    assert await create_topics(brokers, topics, 3, 1) == ["test.migrate"]
    assert await create_topics(brokers, topics, 3, 1) == []
    with pytest.raises(TopicMismatch, match=r"KAFKA_PARTITIONS is 5.*3 partitions"):
        await create_topics(brokers, topics, 5, 1)


async def test_a_topic_is_made_only_with_as_many_replicas_as_the_others(
    stack: Stack, brokers: Brokers
) -> None:
    old: dict[str, dict[str, str]] = {"test.copied": {}}
    both: dict[str, dict[str, str]] = {**old, "test.alone": {}}
    await create_topics(brokers, old, 3, 1)
    with pytest.raises(TopicMismatch, match="KAFKA_REPLICATION is 2, but test.copied has 1 repl"):
        await create_topics(brokers, both, 3, 2)
    assert await create_topics(brokers, old, 3, 2) == [], "none is to be made"
    assert await create_topics(brokers, both, 3, 1) == ["test.alone"], "a refusal makes none"


OF_THE_TOPIC = 1
"""Kafka's number for a setting that is a topic's own, and not the broker's default."""


async def test_a_topic_keeps_what_is_sent_as_it_is_whatever_the_broker_compresses(
    stack: Stack, brokers: Brokers
) -> None:
    await create_topics(brokers, {"test.sizes": {}}, 1, 1)
    admin = AIOKafkaAdminClient(**brokers.client_arguments())
    await admin.start()
    [answer] = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, "test.sizes")]
    )
    await admin.close()
    [(*_, entries)] = answer.resources
    found = {name: (value, source) for name, value, _, source, *_ in entries}
    assert found["compression.type"] == ("producer", OF_THE_TOPIC)


async def test_a_catalogue_of_another_currency_is_refused(
    database: Database, order_id: UUID
) -> None:
    with pytest.raises(CurrencyMismatch, match="STRIPE_CURRENCY is EUR.*PLN"):
        await migrate_database(database, "EUR")
