"""The periodic audit: one worker audits recent orders and exports the findings to Prometheus.

The worker that holds PostgreSQL's advisory lock audits; the lock ends with its connection. The
whole history, and Kafka, are audited by `faust -A app audit`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic

import asyncpg

from app.db.errors import AWAY
from app.db.leadership import leadership
from app.db.pools import Database
from app.db.queries import sql
from app.metrics import AUDIT_FINDINGS, AUDIT_TIME, AUDIT_UNFINISHED
from app.operations.audit import Report, Scope, audit, invariants
from app.times import now

log = logging.getLogger(__name__)

EVERY_SECONDS, HOUR = 180.0, 3600.0
"""The shortest and the longest time between two passes."""
REST = 50
"""The next pass begins this many times a pass's duration after its start, since a pass occupies a
core, for longer the more orders there are."""
REST_WHEN_BROKEN = 2
"""The same after a pass that found something: its page should end soon after its cause."""
LASTING = "no_refund_is_left_to_an_operator"
"""What may stay broken for months (a dispute). It pages nobody, and hastens no pass."""
WINDOW = timedelta(days=1)
"""A pass looks at orders that have changed within this time."""
QUERY_TIMEOUT = timedelta(seconds=10)


async def keep_auditing(
    database: Database, seconds: float = EVERY_SECONDS, rest: float = REST
) -> None:
    """Audit every `seconds` while this worker holds the audit lock, until cancelled.

    A pass that takes long delays the next one by `rest` times its duration, but at most an hour;
    one that found something, by no more than REST_WHEN_BROKEN times its duration.
    """
    while True:
        try:
            async with _leadership(database, seconds) as connection:
                await _audit_while_leading(database, connection, seconds, rest)
        except AWAY as error:
            log.warning("The audit waits: %r", error)
        except asyncpg.PostgresError:
            # Perhaps the schema is newer. Nothing else in the worker depends on the audit.
            log.exception("The audit failed")
        await asyncio.sleep(seconds)


async def _audit_while_leading(
    database: Database, connection: asyncpg.Connection, seconds: float, rest: float
) -> None:
    due = monotonic()
    # It answers while the session, and with it its lock, exists.
    while await sql.ping(connection):
        begun = monotonic()
        if begun >= due:
            scope = Scope(since=now() - WINDOW, patience=QUERY_TIMEOUT)
            tell(report := await audit(database, scope))
            times = min(rest, REST_WHEN_BROKEN) if _hastens(report) else rest
            due = begun + min(times * (monotonic() - begun), HOUR)
        await asyncio.sleep(seconds)


def _hastens(report: Report) -> bool:
    """Return whether the report has findings that page somebody."""
    return any(finding.invariant != LASTING for finding in report.findings)


@asynccontextmanager
async def _leadership(database: Database, seconds: float) -> AsyncIterator[asyncpg.Connection]:
    """Hold the audit lock; on leaving, clear this worker's metrics, which are outdated then."""
    try:
        async with leadership(database, sql.try_to_audit, seconds, "orders auditor") as connection:
            yield connection
    finally:
        AUDIT_FINDINGS.clear()
        AUDIT_UNFINISHED.set(0)


def tell(report: Report) -> None:
    """Export the report as metrics, and log each finding."""
    counts = {finding.invariant: finding.count for finding in report.findings}
    for name in invariants():
        # One that was not finished keeps its last count: it may still be broken.
        if name not in report.unfinished:
            AUDIT_FINDINGS.labels(name).set(counts.get(name, 0))
    AUDIT_UNFINISHED.set(len(report.unfinished))
    AUDIT_TIME.set_to_current_time()
    for finding in report.findings:
        log.error("%s", finding)
    if report.unfinished:
        log.warning("The audit ran out of time for: %s", ", ".join(report.unfinished))
