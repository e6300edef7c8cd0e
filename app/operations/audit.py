"""The auditor: one read-only pass over the books, which tells of each invariant that is broken.

The invariants are the queries of `app/sql/audit/*.sql`: the name is the invariant's, the comment
is what must be true, and the rows are what breaks it. All of them see one snapshot, so most hold at
any moment of a running system. Those that come true a moment later, because an event is still on
its way, blame only what has waited for longer than the bound.
"""

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from app.db import Database
from app.queries import sql
from app.times import now

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a pass looks at."""

    bound: timedelta = timedelta(minutes=5)
    """How long anything may wait; zero: nothing is on its way."""
    since: datetime = BEGINNING
    """Orders that have not changed since then are left out where that saves a walk over all."""
    most: int = 20
    """How many subjects of each invariant are told; all are counted."""
    patience: timedelta = timedelta(minutes=5)
    """How long one query may take before its invariant is given up."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that is broken, what it means, how often, and by whom (the first of them).

    A subject is the id of an order, or of what the invariant's meaning names.
    """

    invariant: str
    meaning: str
    count: int
    subjects: Sequence[tuple[str, str]]
    """(id, what is wrong with it)."""

    def __str__(self) -> str:
        told = "".join(f"\n    {id}  {detail}" for id, detail in self.subjects)
        more = self.count - len(self.subjects)
        rest = f"\n    and {more} more" if more else ""
        return f"{self.invariant} is broken {self.count} times. {self.meaning}{told}{rest}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a pass found, and the invariants that it had to give up for their time."""

    findings: Sequence[Finding]
    unfinished: Sequence[str] = ()

    def __add__(self, findings: Sequence[Finding]) -> "Report":
        return Report([*self.findings, *findings], self.unfinished)

    @property
    def is_silent(self) -> bool:
        """Whether every invariant was looked at, and holds."""
        return not self.findings and not self.unfinished


def invariants() -> Mapping[str, str]:
    """What each invariant means, by its name."""
    return {name: " ".join(query.__doc__.split()) for name, query in _queries().items()}


def _queries() -> dict[str, Any]:
    names = [name for name in sql.audit.available_queries if not name.endswith("_cursor")]
    return {name: getattr(sql.audit, name) for name in names}


async def audit(database: Database, scope: Scope) -> Report:
    """One pass over PostgreSQL, on a connection of its own. Raises one of AWAY."""
    async with reader(database, scope.patience) as connection:
        return await look(connection, scope)


@asynccontextmanager
async def reader(database: Database, patience: timedelta) -> AsyncIterator[asyncpg.Connection]:
    """One snapshot of all rows, on a connection that cannot write and keeps to one core."""
    connection = await database.connect(
        # PostgreSQL ends a query itself, unless it cannot be reached any more.
        command_timeout=patience.total_seconds() + 10,
        application_name="orders audit",
        max_parallel_workers_per_gather="0",
    )
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        connection.terminate()


async def look(connection: asyncpg.Connection, scope: Scope) -> Report:
    """One pass inside a transaction. Raises one of AWAY."""
    kept = await sql.events_kept_since(connection) or BEGINNING
    bounds = {"rest": now() - scope.bound, "kept": kept, **asdict(scope)}
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
    # A savepoint: a query that is given up must not end the snapshot of the others.
    async with connection.transaction():
        await sql.limit_statements(connection, patience=patience)
        rows: Sequence[Any] = await query(connection, **{name: bounds[name] for name in wanted})
    return rows


def _finding(name: str, rows: Sequence[Any]) -> Finding:
    subjects = [(str(row["subject"]), row["detail"]) for row in rows]
    return Finding(name, invariants()[name], rows[0]["found"], subjects)
