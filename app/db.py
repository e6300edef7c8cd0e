"""PostgreSQL: connection pools, and how a transaction begins and ends."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from app.crashes import Point, crash_here
from app.transaction import Transaction, write_changes

log = logging.getLogger(__name__)


LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # Raised by a query on a connection that the server is just closing.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""The connection broke: the last statement may or may not have been executed."""

AWAY = (
    *LOST,
    asyncpg.InsufficientResourcesError,
    # A migration has changed a table since the statement was prepared; asyncpg prepares it anew.
    asyncpg.InvalidCachedStatementError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
"""PostgreSQL is unavailable, refuses the connection, or asks for a retry.

The same work may be repeated: if its commit did arrive, the stored states show it.
"""


NO_PRIMARY = asyncpg.TargetServerAttributeNotMatched
"""The server is a standby."""

MOVED = (asyncpg.UniqueViolationError, asyncpg.NotNullViolationError)
"""Rows that were read without a lock have changed since: nothing was written."""

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


DEAD_PEERS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""Settings by which the server notices that a worker's machine is gone (seconds; milliseconds).
Otherwise the locks of its transactions would be held for up to two hours."""
OWN_LIMITS = {
    "lock_timeout": "2s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "10s",
}
"""What counts instead of limits that the role or the database has. A statement that takes too long
ends by COMMAND_SECONDS alone, which is told apart from a server that is away. A worker that stands
still (a stopped process, a stuck disk) keeps its locks for as long as Kafka its partitions."""
COMMAND_SECONDS = 10.0
"""How long a statement of a pool may take; then it is cancelled, and raises TimeoutError."""
CONNECT_SECONDS = 5.0
"""How long connecting may take. Each host has an equal part of it."""
READ_ONLY = {"default_transaction_read_only": "on"}
WRITABLE = {"target_session_attrs": "read-write"}
"""Connect to a primary: a former one may be back as a standby, where every write would fail."""


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
        self._hosts = _each_host(dsn)
        self._settings = {**OWN_LIMITS, **DEAD_PEERS, **settings, "application_name": name}
        self._name = name
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self.after_commit: list[AfterCommit] = []

    async def open(self) -> None:
        """Create the pool; connections are opened when they are needed."""
        self._pool = await asyncpg.create_pool(
            connect=self._connect,
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

        `command_timeout` is in seconds; None means no timeout. A standby will do for a connection
        whose settings are READ_ONLY.
        """
        server = {} if READ_ONLY.items() <= server_settings.items() else WRITABLE
        return await self._connect(
            **server,
            command_timeout=command_timeout,
            max_cached_statement_lifetime=PLAN_SECONDS,
            server_settings={"application_name": self._name, **DEAD_PEERS, **server_settings},
        )

    async def _connect(self, *_: None, **options: Any) -> asyncpg.Connection:
        """Connect to the first host that will do, beginning with the one that did last.

        asyncpg itself would wait for a silent host until all time is up. Raises one of AWAY.
        """
        share = CONNECT_SECONDS / len(self._hosts)
        failures: list[Exception] = []
        for host in list(self._hosts):
            try:
                return await asyncpg.connect(**options | host, timeout=share)
            except AWAY as error:
                self._put_last(host)
                failures.append(error)
            except asyncio.CancelledError:
                # Who has waited for the pool has little time left for a silent host.
                self._put_last(host)
                raise
        # That a standby will not do is no news where the primary has refused.
        told = (one for one in failures if not isinstance(one, NO_PRIMARY))
        raise next(told, failures[0])

    def _put_last(self, host: dict[str, Any]) -> None:
        self._hosts.remove(host)
        self._hosts.append(host)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Acquire a pooled connection, without a transaction. Raises one of AWAY."""
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool is not open")
        async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self, *works: str) -> AsyncIterator[Transaction]:
        """Commit what the body did together with the events it published, or nothing.

        `works` names what the body does, as `module.function`, for crash points.
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
        except LOST:
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
        """Like `transaction`, for a body that takes no locks: it needs no BEGIN and COMMIT.

        The one statement that writes is the whole transaction. It fails with one of MOVED if what
        the body read has changed since. Only for pools with SHORT_WAITS: the statement may insert
        an order's event before it waits for the order's row lock, while the holder of that lock is
        about to insert the same event.
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


def _each_host(dsn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the connection arguments for each host of the URL; they are separated by commas."""
    url = urlsplit(dsn.get("dsn") or "")
    login, at, hosts = url.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    places = [url._replace(netloc=f"{login}{at}{host}") for host in hosts.split(",")]
    return [{**dsn, "dsn": urlunsplit(place)} for place in places]


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Skip asyncpg's reset and its round trip: no state here outlives its transaction."""


async def _write(transaction: Transaction, works: Sequence[str]) -> None:
    await write_changes(transaction)
    for notice in transaction.notices:
        notice()
    crash_here(Point.WRITTEN, *works)
