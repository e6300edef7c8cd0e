"""The audit: one read-only pass over PostgreSQL that reports every broken invariant.

Each query of `app/sql/audit/*.sql` is an invariant: its name, a comment that says what must be
true, and rows that are the violations. All queries see one snapshot, so most invariants hold at any
moment of a running system. Those that may be false while an event is in flight report only what has
waited for longer than the bound.
"""

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from app.db.connecting import READ_ONLY
from app.db.pools import Database
from app.db.queries import sql
from app.money.amounts import THOUSANDTHS, WHOLE
from app.times import now

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
CLOCKS_APART = timedelta(hours=1)
"""How much later an order's own time may be than that of its events, by other workers' clocks."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope and limits of a pass."""

    bound: timedelta = timedelta(minutes=5)
    """How long anything may wait; zero if nothing is in flight."""
    since: datetime = BEGINNING
    """Orders that have not changed since then are skipped, where that saves a scan of all rows."""
    most: int = 20
    """How many subjects of each invariant are listed; all are counted."""
    patience: timedelta = timedelta(minutes=5)
    """How long one query may take before its invariant is reported as unfinished."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken invariant: its meaning, the number of violations, and the first subjects.

    A subject is the id of an order, or of what the invariant's meaning names.
    """

    invariant: str
    meaning: str
    count: int
    subjects: Sequence[tuple[str, str]]
    """Pairs of (id, what is wrong with it)."""

    def __str__(self) -> str:
        told = "".join(f"\n    {id}  {detail}" for id, detail in self.subjects)
        more = self.count - len(self.subjects)
        rest = f"\n    and {more} more" if more else ""
        return f"{self.invariant} is broken {self.count} times. {self.meaning}{told}{rest}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a pass found, and the invariants whose queries took too long."""

    findings: Sequence[Finding]
    unfinished: Sequence[str] = ()

    def __add__(self, findings: Sequence[Finding]) -> "Report":
        return Report([*self.findings, *findings], self.unfinished)

    @property
    def is_silent(self) -> bool:
        """Whether every invariant was checked and holds."""
        return not self.findings and not self.unfinished


def invariants() -> Mapping[str, str]:
    """Return the meaning of each invariant, by its name."""
    return {name: " ".join(query.__doc__.split()) for name, query in _queries().items()}


def _queries() -> dict[str, Any]:
    names = [name for name in sql.audit.available_queries if not name.endswith("_cursor")]
    return {name: getattr(sql.audit, name) for name in names}


async def audit(database: Database, scope: Scope) -> Report:
    """Run one pass over PostgreSQL on a connection of its own. Raises one of AWAY."""
    async with reader(database, scope.patience) as connection:
        return await look(connection, scope)


@asynccontextmanager
async def reader(database: Database, patience: timedelta) -> AsyncIterator[asyncpg.Connection]:
    """Open a read-only snapshot on a connection of its own, without parallel queries."""
    connection = await database.connect(
        # statement_timeout ends a query earlier, unless PostgreSQL cannot be reached.
        command_timeout=patience.total_seconds() + 10,
        application_name="orders audit",
        **READ_ONLY,
        max_parallel_workers_per_gather="0",
    )
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        connection.terminate()


async def events_kept_since(connection: asyncpg.Connection) -> datetime:
    """Return the time from which on an order's or a message's events cannot have been dropped."""
    since: datetime = await sql.events_kept_since(connection)
    return since + CLOCKS_APART


async def look(connection: asyncpg.Connection, scope: Scope) -> Report:
    """Run one pass inside the connection's transaction. Raises one of AWAY."""
    kept = await events_kept_since(connection)
    counted = {"whole": WHOLE, "thousandths": THOUSANDTHS}
    bounds = {"rest": now() - scope.bound, "kept": kept, **counted, **asdict(scope)}
    findings, unfinished = [], []
    for name, query in _queries().items():
        try:
            rows = await _ask(connection, query, bounds, scope.patience)
        except asyncpg.QueryCanceledError:
            unfinished.append(name)
            continue
        if rows:
            findings.append(_finding(name, rows))
    return Report(findings, unfinished)


async def _ask(
    connection: asyncpg.Connection, query: Any, bounds: Mapping[str, Any], patience: timedelta
) -> Sequence[Any]:
    wanted = inspect.signature(query).parameters.keys() & bounds.keys()
    # A savepoint: a query that times out must not end the snapshot of the others.
    async with connection.transaction():
        await sql.limit_statements(connection, patience=patience)
        rows: Sequence[Any] = await query(connection, **{name: bounds[name] for name in wanted})
    return rows


def _finding(name: str, rows: Sequence[Any]) -> Finding:
    subjects = [(str(row["subject"]), row["detail"]) for row in rows]
    return Finding(name, invariants()[name], rows[0]["found"], subjects)
