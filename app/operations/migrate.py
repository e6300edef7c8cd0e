"""Migrate PostgreSQL's schema and create Kafka's topics: forward-only and repeatable."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from app.db.pools import Database
from app.db.queries import sql
from app.kafka.broker_access import Brokers
from app.kafka.producing import MAX_MESSAGE
from app.topics import DeadLetter, topic_names

DAY_MS = 24 * 3600 * 1000
CHANGELOG = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(7 * DAY_MS),
    # Kafka deletes and compacts only closed segments, and by default closes one after a week.
    "segment.ms": str(DAY_MS),
}


LOCK_WAIT = "5s"
"""How long a migration waits for a lock. All statements on its table would wait behind it."""


class MigrationChanged(Exception):
    """Raised when an applied migration differs from the file of its name."""


class CurrencyMismatch(Exception):
    """Raised when the catalogue has prices in another currency than the configured one."""


class TopicMismatch(Exception):
    """Raised when a topic exists with other partitions, or other replicas, than configured."""


async def migrate_database(database: Database, currency: str) -> list[str]:
    """Apply the pending migrations, each file in its own transaction, and return their names.

    One process migrates at a time. Raises MigrationChanged, and CurrencyMismatch if products have
    prices in another currency than `currency`.
    """
    connection = await database.connect()
    try:
        await sql.lock_migrations(connection)
        await sql.prepare_migrations(connection)
        applied = {row["name"]: row["checksum"] for row in await sql.applied_migrations(connection)}
        files = [
            name
            for name, text in sorted(_migrations().items())
            if await _apply(connection, name, text, applied.get(name))
        ]
        if foreign := await sql.foreign_currency(connection, currency=currency):
            raise CurrencyMismatch(
                f"STRIPE_CURRENCY is {currency}, but the catalogue has prices in {foreign}"
            )
        return files
    finally:
        await connection.close()


def _migrations() -> dict[str, str]:
    folder = files("migrations")
    return {f.name: f.read_text() for f in folder.iterdir() if f.name.endswith(".sql")}


async def _apply(connection: asyncpg.Connection, name: str, text: str, known: str | None) -> bool:
    checksum = sha256(text.encode()).hexdigest()
    if known is not None:
        if known != checksum:
            raise MigrationChanged(f"{name} was changed after it had been applied: add a new file")
        return False
    try:
        async with connection.transaction():
            await sql.limit_lock_waits(connection, timeout=LOCK_WAIT)
            await connection.execute(text)
            await sql.note_migration(connection, name=name, checksum=checksum)
    except asyncpg.PostgresError as error:
        error.add_note(f"in {name}")
        raise
    return True


def all_topics(changelogs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the configuration of every topic that this version needs, by name."""
    topics: dict[str, dict[str, str]] = {name: {} for name in topic_names()}
    topics[DeadLetter.topic_name] = {"max.message.bytes": str(MAX_MESSAGE)}
    return topics | dict.fromkeys(changelogs, CHANGELOG)


async def create_topics(
    brokers: Brokers, topics: Mapping[str, Mapping[str, str]], partitions: int, replication: int
) -> list[str]:
    """Create the missing topics (name to configuration), and return their names.

    Raises TopicMismatch, with no topic made. All topics need the same number of partitions, because
    the worker that owns an order's partition handles its events of all types, and tables are
    partitioned likewise. The number of replicas counts only if a topic is to be made: it may be
    changed in Kafka, before or after the setting is.
    """
    admin = AIOKafkaAdminClient(**brokers.client_arguments())
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [name for name in topics if name not in existing]
        for topic in await admin.describe_topics([name for name in topics if name in existing]):
            _compare(topic, partitions, replication if missing else None)
        await _create(admin, {name: topics[name] for name in missing}, partitions, replication)
        return missing
    finally:
        await admin.close()


def _compare(topic: Mapping[str, Any], partitions: int, replication: int | None) -> None:
    """Raise TopicMismatch unless the topic has as many partitions, and replicas of each."""
    name, found = topic["topic"], topic["partitions"]
    if len(found) != partitions:
        raise TopicMismatch(
            f"KAFKA_PARTITIONS is {partitions}, but {name} has {len(found)} partitions"
        )
    for copies in {len(partition["replicas"]) for partition in found}:
        if replication not in (None, copies):
            raise TopicMismatch(
                f"KAFKA_REPLICATION is {replication}, but {name} has {copies} replicas"
            )


async def _create(
    admin: AIOKafkaAdminClient,
    topics: Mapping[str, Mapping[str, str]],
    partitions: int,
    replication: int,
) -> None:
    if not topics:
        return
    common = {
        # What is acknowledged is on all replicas but one at least.
        "min.insync.replicas": str(max(1, replication - 1)),
        # A broker whose default is a codec would compress, and each worker unpack, small batches.
        "compression.type": "producer",
    }
    response = await admin.create_topics(
        [
            NewTopic(name, partitions, replication, topic_configs={**common, **configuration})
            for name, configuration in topics.items()
        ]
    )
    for name, code, *_ in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(name)
