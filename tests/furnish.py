"""Schema, topics and catalogue for servers that a test starts itself."""

import asyncio
from collections.abc import Mapping

from app import app
from app.db.pools import Database
from app.kafka.broker_access import Brokers
from app.operations.demo_catalogue import fill_catalogue
from app.operations.migrate import all_topics, create_topics, migrate_database
from devstack.server import ask
from tables import handled, replays

CURRENCY, PARTITIONS, REPLICATION = "PLN", 4, 1
SECONDS = 60

assert handled and replays, "imported for their changelogs"


def furnish(environment: Mapping[str, str], *, catalogue: bool) -> None:
    """Do what the commands `migrate` and, with `catalogue`, `demo-catalogue` do.

    A command would take seconds to start; `environment` in tests/conftest.py runs them.
    """
    ask(_furnish(environment, catalogue), SECONDS)


async def _furnish(environment: Mapping[str, str], catalogue: bool) -> None:
    brokers = Brokers(environment["KAFKA_BROKERS"].split(","))
    topics = all_topics(app.tables.changelog_topics)
    replication = int(environment.get("KAFKA_REPLICATION", REPLICATION))
    await asyncio.gather(
        _fill(environment["DB_URL"], catalogue),
        create_topics(brokers, topics, PARTITIONS, replication),
    )


async def _fill(url: str, catalogue: bool) -> None:
    database = Database({"dsn": url}, 1)
    await database.open()
    try:
        await migrate_database(database, CURRENCY)
        if catalogue:
            await fill_catalogue(database, CURRENCY)
    finally:
        await database.close()
