"""PostgreSQL: connection pools, and how a transaction begins and ends."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg

from app.crashes import Point, crash_here
from app.db.connecting import (
    CONNECT_SECONDS,
    DEAD_PEERS,
    OWN_LIMITS,
    PRIMARY,
    READ_ONLY,
    WITHOUT_LIMITS,
    WRITABLE,
    Hosts,
    name_the_server,
)
from app.db.errors import IN_DOUBT
from app.db.transaction import Transaction, write_changes

log = logging.getLogger(__name__)

SHORT_WAITS = {"lock_timeout": "50ms"}
"""Settings for batch transactions, so that one member's lock does not hold up the others."""

FEW_ROWS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Planner settings for connections whose statements touch few rows, by an index.

A plan that is made while a table is small may be a sequential scan, and remain one while the table
grows: milliseconds for each transaction.
"""
PLAN_SECONDS = 10
"""How long a plan is kept. Of an almost empty table PostgreSQL may read a whole index instead of
looking up rows; it would keep that plan until the table is analysed, which may take minutes."""

COMMAND_SECONDS = 10.0
"""How long a statement of a pool may take; then it raises TimeoutError. It is cancelled, unless it
commits."""

AfterCommit = Callable[[Transaction], Awaitable[None]]


class Database:
    """A connection pool.

    The hooks in `after_commit` run in order after each commit, also after a possible one.
    """

    def __init__(
        self, dsn: dict[str, Any], pool_size: int, name: str = "orders", **settings: str
    ) -> None:
        """Prepare the pool; `open` creates it.

        `name` is the connections' application_name, shown in pg_stat_activity and the server's log.
        `settings` are PostgreSQL settings for each connection of the pool.
        """
        self._dsn = dsn
        self.hosts = Hosts(dsn)
        """Where it connects to; pools that share it are connected to the same host."""
        self._settings = {**OWN_LIMITS, **DEAD_PEERS, **settings, "application_name": name}
        self._name = name
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self.after_commit: list[AfterCommit] = []

    async def open(self) -> None:
        """Create the pool; connections are opened when they are needed."""
        self._pool = await asyncpg.create_pool(
            connect=self.hosts.connect,
            **WRITABLE,
            min_size=0,
            max_size=self._pool_size,
            command_timeout=COMMAND_SECONDS,
            max_cached_statement_lifetime=PLAN_SECONDS,
            reset=_nothing_to_reset,
            server_settings=self._settings,
        )

    async def close(self) -> None:
        """Close the pool, after waiting for open transactions."""
        if self._pool is not None:
            await self._pool.close()

    async def connect(
        self, command_timeout: float | None = None, **server_settings: str
    ) -> asyncpg.Connection:
        """Open a connection outside the pool, for long-lived uses: advisory locks and LISTEN.

        `command_timeout` is in seconds; None means no timeout.
        """
        server = PRIMARY if READ_ONLY.items() <= server_settings.items() else WRITABLE
        return await self.hosts.connect(
            **server,
            command_timeout=command_timeout,
            max_cached_statement_lifetime=PLAN_SECONDS,
            server_settings={
                "application_name": self._name,
                **DEAD_PEERS,
                **WITHOUT_LIMITS,
                **server_settings,
            },
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Acquire a pooled connection, without a transaction. Raises one of AWAY."""
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool is not open")
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                yield connection
        except TimeoutError as error:
            name_the_server(error)
            raise

    @asynccontextmanager
    async def transaction(self, *works: str) -> AsyncIterator[Transaction]:
        """Commit what the body did together with the events it emitted, or nothing.

        `works` names what the body does, as `module.function`, for crash points. Raises one of
        AWAY, what `write_changes` raises (one of CONFLICT), and what the body raises. If one of
        IN_DOUBT comes after the body has ended, it is unknown whether the commit was done, and the
        `after_commit` hooks run all the same.
        """
        async with (
            self._announced(works) as leaving,
            self.connection() as connection,
            connection.transaction(),
        ):
            transaction = Transaction(connection)
            yield transaction
            leaving.append(transaction)
            await _write(transaction, works)

    @asynccontextmanager
    async def _announced(self, works: Sequence[str]) -> AsyncIterator[list[Transaction]]:
        """Run the `after_commit` hooks for the transaction that the body adds to the list.

        They also run when PostgreSQL's answer was lost: a needless call does no harm, but a cache
        that is not told of a commit would serve stale data.
        """
        leaving: list[Transaction] = []
        try:
            yield leaving
        except IN_DOUBT:
            for transaction in leaving:
                await self._announce(transaction, works)
            raise
        crash_here(Point.COMMITTED, *works)
        leaving[0].is_committed = True
        await self._announce(leaving[0], works)

    async def _announce(self, transaction: Transaction, works: Sequence[str]) -> None:
        for hook in self.after_commit:
            try:
                await hook(transaction)
            except Exception:
                # The commit is done: raising would make the caller repeat it.
                log.exception("After the commit of %s", " and ".join(works) or "a transaction")

    @asynccontextmanager
    async def single_statement(self, *works: str) -> AsyncIterator[Transaction]:
        """Like `transaction`, with optimistic concurrency, for a body that takes no locks.

        The one statement that writes is the whole transaction, without BEGIN and COMMIT. It fails
        with one of CONFLICT if what the body read has changed since. Only for pools with
        SHORT_WAITS: the statement may insert an order's event before it waits for the order's row
        lock, while the holder of that lock is about to insert the same event.
        """
        async with self._announced(works) as leaving, self.connection() as connection:
            transaction = Transaction(connection)
            yield transaction
            leaving.append(transaction)
            await _write(transaction, works)

    @asynccontextmanager
    async def rehearsal(
        self,
    ) -> AsyncIterator[Callable[[], AbstractAsyncContextManager[Transaction]]]:
        """Yield a function that begins transactions, for a dry run.

        Each transaction sees the effects of the earlier ones; in the end all are rolled back.
        """

        @asynccontextmanager
        async def begin() -> AsyncIterator[Transaction]:
            async with connection.transaction():
                transaction = Transaction(connection)
                yield transaction
                await write_changes(transaction)

        async with self.connection() as connection:
            whole = connection.transaction()
            await whole.start()
            try:
                yield begin
            finally:
                await whole.rollback()


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Skip asyncpg's reset and its round trip: no state here outlives its transaction."""


async def _write(transaction: Transaction, works: Sequence[str]) -> None:
    await write_changes(transaction)
    for notice in transaction.notices:
        notice()
    crash_here(Point.WRITTEN, *works)
