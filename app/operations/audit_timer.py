"""The auditor on a timer: one worker of all looks at the recent orders, and tells Prometheus.

Whoever holds PostgreSQL's advisory lock audits, on a connection of its own; the lock ends with it.
The whole history, and Kafka, are for `faust -A app audit`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic

import asyncpg

from app.db import AWAY, Database
from app.leadership import leadership
from app.metrics import AUDIT_FINDINGS, AUDIT_TIME, AUDIT_UNFINISHED
from app.operations.audit import Report, Scope, audit, invariants
from app.queries import sql
from app.times import now

log = logging.getLogger(__name__)

EVERY_SECONDS, HOUR = 180.0, 3600.0
REST = 50
"""How many times as long as a pass took there is none. It takes a core, the longer the more orders
there are."""
WINDOW = timedelta(days=1)
QUERY_TIMEOUT = timedelta(seconds=10)


async def keep_auditing(
    database: Database, seconds: float = EVERY_SECONDS, rest: float = REST
) -> None:
    """Audit every so many seconds while no other worker does, until cancelled.

    Where a pass takes long, it rests `rest` times as long, but audits each hour.
    """
    while True:
        try:
            async with _leadership(database, seconds) as connection:
                due = monotonic()
                while await sql.still_audits(connection):
                    begun = monotonic()
                    if begun >= due:
                        scope = Scope(since=now() - WINDOW, patience=QUERY_TIMEOUT)
                        tell(await audit(database, scope))
                        due = begun + min(rest * (monotonic() - begun), HOUR)
                    await asyncio.sleep(seconds)
        except AWAY as error:
            log.warning("The audit waits: %r", error)
        except asyncpg.PostgresError:
            # Of a newer schema, perhaps. Nothing else of the worker depends on it.
            log.exception("The audit failed")
        await asyncio.sleep(seconds)


@asynccontextmanager
async def _leadership(database: Database, seconds: float) -> AsyncIterator[asyncpg.Connection]:
    """Begins when no other worker audits; at its end this one's findings are old, and forgotten."""
    try:
        async with leadership(database, sql.try_to_audit, seconds, "orders auditor") as connection:
            yield connection
    finally:
        AUDIT_FINDINGS.clear()


def tell(report: Report) -> None:
    """Put the report into the metrics, and each finding into the log."""
    counts = {finding.invariant: finding.count for finding in report.findings}
    for name in invariants():
        AUDIT_FINDINGS.labels(name).set(counts.get(name, 0))
    AUDIT_UNFINISHED.set(len(report.unfinished))
    AUDIT_TIME.set_to_current_time()
    for finding in report.findings:
        log.error("%s", finding)
    if report.unfinished:
        log.warning("The audit gave up for their time: %s", ", ".join(report.unfinished))
