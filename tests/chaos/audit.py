"""Run the product's own auditor once the system is at rest, and compare with what customers saw."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from app.db.pools import Database
from app.kafka.broker_access import Brokers
from app.operations.audit import Finding, Report, Scope, look
from app.operations.kafka_audit import audit_kafka
from tests.chaos.deployment import Deployment
from tests.chaos.messages import lag
from tests.chaos.waiting import comes_true

AT_REST = Scope(bound=timedelta(0))

TABLES = (
    *("orders", "order_items", "payments", "reservations"),
    *("provider_events", "refunds", "provider_calls"),
    *("outbox", "products", "notifications", "idempotency_keys"),
)


@asynccontextmanager
async def reading(deployment: Deployment) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection to PostgreSQL that cannot write."""
    settings = {"default_transaction_read_only": "on"}
    connection = await asyncpg.connect(deployment.database, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def count(deployment: Deployment, query: str) -> int:
    """Return the single number that the query selects."""
    async with reading(deployment) as connection:
        return int(await connection.fetchval(query))


async def snapshot(deployment: Deployment) -> dict[str, list[Any]]:
    """Return every row that an event could change, by table."""
    async with reading(deployment) as connection:
        return {
            table: sorted(map(str, await connection.fetch(f"select * from {table}")))
            for table in TABLES
        }


async def books(deployment: Deployment) -> Report:
    """Run the PostgreSQL audit with no tolerance for work in progress."""
    async with reading(deployment) as connection, connection.transaction():
        return await look(connection, AT_REST)


async def rest(deployment: Deployment, seconds: float = 60) -> bool:
    """Wait until nothing is left to do; return whether that happened in time."""

    async def is_at_rest() -> bool:
        return not await lag(deployment.brokers) and (await books(deployment)).is_silent

    return await comes_true(is_at_rest, seconds)


async def audit(deployment: Deployment, promised: Mapping[str, str | None]) -> None:
    """Fail the test with every fault that is found once the system is at rest.

    `promised` maps each order that a customer was promised to the final status the customer saw.
    """
    found = await faults(deployment, promised)
    assert not found, "\n".join(found)


async def faults(
    deployment: Deployment, promised: Mapping[str, str | None], seconds: float = 60
) -> list[str]:
    """Return one text per fault, found once the system is at rest or `seconds` have passed."""
    restless = (
        []
        if await rest(deployment, seconds)
        else [f"not at rest: lag {await lag(deployment.brokers)}"]
    )
    report = await books(deployment) + await kafka(deployment)
    async with reading(deployment) as connection:
        orders = await connection.fetch("select id, status from orders")
    statuses = {str(order["id"]): order["status"] for order in orders}
    late = [f"given up for its time: {name}" for name in report.unfinished]
    return [*restless, *late, *map(str, report.findings), *_broken_promises(statuses, promised)]


async def kafka(deployment: Deployment) -> list[Finding]:
    """Return what the auditor finds in Kafka."""
    database = Database({"dsn": deployment.database}, 1)
    return await audit_kafka(database, Brokers(deployment.brokers.split(",")), AT_REST)


def _broken_promises(orders: Mapping[str, str], promised: Mapping[str, str | None]) -> list[str]:
    wrong = {
        "an order was promised and is not there": promised.keys() - orders.keys(),
        "an order is there that nobody was promised": orders.keys() - promised.keys(),
        "an order ended otherwise than its customer saw": {
            f"{id}: {promised[id]}, {orders[id]}"
            for id in promised.keys() & orders.keys()
            if promised[id] != orders[id]
        },
    }
    return [f"{what} ({len(ids)} times): {sorted(ids)[:4]}" for what, ids in wrong.items() if ids]
