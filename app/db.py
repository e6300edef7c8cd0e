"""PostgreSQL: the pools, and how a transaction begins and ends."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg

from app.crashes import Point, crash_here
from app.transaction import Transaction, write_changes

log = logging.getLogger(__name__)


LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # What a query meets on a connection that the server has just said farewell to.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
"""The connection broke: what was asked for last may have been done."""

AWAY = (
    *LOST,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
"""PostgreSQL is away, does not let us in, or asks to try again. The same work may be repeated: if
the commit did arrive, the states that it left show it."""


MOVED = (asyncpg.UniqueViolationError, asyncpg.NotNullViolationError)
"""What was read without a lock has changed meanwhile: nothing was written."""

SHORT_WAITS = {"lock_timeout": "50ms"}
"""For transactions of many, of which one's lock should not hold up the others."""

FEW_ROWS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""For connections whose statements touch few rows, by an index.

A plan is made once and kept. Made while a table is still small, it may be to read all of it, and
stays so while the table grows, until it is analysed: milliseconds for each transaction.
"""


AfterCommit = Callable[[Transaction], Awaitable[None]]


class Database:
    """The connection pool. `after_commit` runs, in order, after each commit, or what may be one."""

    def __init__(
        self, dsn: dict[str, Any], pool_size: int, name: str = "orders", **settings: str
    ) -> None:
        """`name` is what pg_stat_activity and the server's log call these connections.

        `settings` are PostgreSQL's, for each connection of the pool.
        """
        self._dsn = dsn
        self._settings = {"application_name": name, "lock_timeout": "2s", **settings}
        self._name = name
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self.after_commit: list[AfterCommit] = []

    async def open(self) -> None:
        """Make the pool; connections are opened when they are needed."""
        self._pool = await asyncpg.create_pool(
            **self._dsn,
            min_size=0,
            max_size=self._pool_size,
            timeout=5,
            command_timeout=10,
            reset=_nothing_to_reset,
            server_settings=self._settings,
        )

    async def close(self) -> None:
        """Close the pool, waiting for transactions under way."""
        if self._pool is not None:
            await self._pool.close()

    async def connect(
        self, command_timeout: float | None = None, **server_settings: str
    ) -> asyncpg.Connection:
        """A connection outside the pool, for what lasts: advisory locks and LISTEN.

        `command_timeout` is in seconds; None lets a statement wait.
        """
        return await asyncpg.connect(
            **self._dsn,
            timeout=5,
            command_timeout=command_timeout,
            server_settings={"application_name": self._name, **server_settings},
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A pooled connection for reads. Raises one of AWAY when none is to be had."""
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool is not open")
        async with self._pool.acquire(timeout=5) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self, *works: str) -> AsyncIterator[Transaction]:
        """Commit what the body did together with the events it published, or nothing.

        `works` are what it does, as `module.function`: crash points know it by that.
        """
        async with (
            self._told(works) as leaving,
            self.connection() as connection,
            connection.transaction(),
        ):
            transaction = Transaction(connection)
            yield transaction
            leaving.append(transaction)
            await _leave(transaction, works)

    @asynccontextmanager
    async def _told(self, works: Sequence[str]) -> AsyncIterator[list[Transaction]]:
        """Tells `after_commit` of the transaction that its body leaves.

        Also where PostgreSQL's answer was lost: a needless look does no harm, but a cache that is
        not told of a commit would show stale data.
        """
        leaving: list[Transaction] = []
        try:
            yield leaving
        except LOST:
            for transaction in leaving:
                await self._tell(transaction, works)
            raise
        crash_here(Point.COMMITTED, *works)
        leaving[0].is_committed = True
        await self._tell(leaving[0], works)

    async def _tell(self, transaction: Transaction, works: Sequence[str]) -> None:
        for hook in self.after_commit:
            try:
                await hook(transaction)
            except Exception:
                # What is committed is done: to report a failure would have it done again.
                log.exception("After the commit of %s", " and ".join(works) or "a transaction")

    @asynccontextmanager
    async def single_statement(self, *works: str) -> AsyncIterator[Transaction]:
        """As `transaction`, for a body that locks nothing: it costs no BEGIN and no COMMIT.

        The one statement that writes is all of the transaction. It fails with one of MOVED where
        what the body read has changed since it was read. On connections of SHORT_WAITS only: it
        writes an order's event before it waits for the order, whose holder may be about to write
        the same.
        """
        async with self._told(works) as leaving, self.connection() as connection:
            transaction = Transaction(connection)
            yield transaction
            leaving.append(transaction)
            await _leave(transaction, works)

    @asynccontextmanager
    async def rehearsal(
        self,
    ) -> AsyncIterator[Callable[[], AbstractAsyncContextManager[Transaction]]]:
        """Begins transactions that see what those before them did, and all come to nothing."""

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
    """Nothing here outlives its transaction, so a connection goes back without a round trip."""


async def _leave(transaction: Transaction, works: Sequence[str]) -> None:
    await write_changes(transaction)
    for notice in transaction.notices:
        notice()
    crash_here(Point.WRITTEN, *works)
