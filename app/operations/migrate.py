"""Bring PostgreSQL and Kafka to what this version needs: forward-only, and repeatable."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from app.db import Database
from app.queries import sql

DAY_MS = 24 * 3600 * 1000
CHANGELOG = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(7 * DAY_MS),
    # Kafka deletes and compacts closed segments only, and closes one after a week by default.
    "segment.ms": str(DAY_MS),
}


class MigrationChanged(Exception):
    """Raised when a migration that was applied differs from the file of its name."""


class CurrencyMismatch(Exception):
    """Raised when the catalogue is priced in another currency than the configured one."""


class TopicMismatch(Exception):
    """Raised when a topic exists with another number of partitions than the rest."""


async def migrate_database(database: Database, currency: str) -> list[str]:
    """Apply what has not been applied, each file in its own transaction; the names applied.

    One process migrates at a time. Raises MigrationChanged, and CurrencyMismatch when products are
    priced in another currency than `currency`.
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
    async with connection.transaction():
        await connection.execute(text)
        await sql.note_migration(connection, name=name, checksum=checksum)
    return True


async def create_topics(
    brokers: list[str], topics: Mapping[str, Mapping[str, str]], partitions: int, replication: int
) -> list[str]:
    """Create the topics (name to configuration) that do not exist; the names created.

    Raises TopicMismatch: every topic needs the same partitions, for an order's events of all types
    are handled by the worker that owns its partition, and tables follow their topics.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [name for name in topics if name not in existing]
        await _create(admin, {name: topics[name] for name in missing}, partitions, replication)
        for topic in await admin.describe_topics([name for name in topics if name in existing]):
            if len(topic["partitions"]) != partitions:
                raise TopicMismatch(
                    f"KAFKA_PARTITIONS is {partitions}, but {topic['topic']} has "
                    f"{len(topic['partitions'])} partitions"
                )
        return missing
    finally:
        await admin.close()


async def _create(
    admin: AIOKafkaAdminClient,
    topics: Mapping[str, Mapping[str, str]],
    partitions: int,
    replication: int,
) -> None:
    if not topics:
        return
    response = await admin.create_topics(
        [
            NewTopic(name, partitions, replication, topic_configs=dict(configuration))
            for name, configuration in topics.items()
        ]
    )
    for name, code, *_ in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(name)
