"""Connecting to PostgreSQL: to which host, for how long, and with which settings."""

import asyncio
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from weakref import WeakSet

import asyncpg

from app.db.errors import AWAY

CONNECT_SECONDS = 5.0
"""How long connecting may take. Each host has an equal part of it."""

DEAD_PEERS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "client_connection_check_interval": "5s",
}
"""Settings by which the server notices that a worker's machine is gone (seconds; milliseconds), or
that nobody waits for what it is doing. Otherwise the locks of its transactions would be held for up
to two hours, and statements would go on. A commit that waits for a standby goes on all the same."""
SOCKET_OPTIONS = {
    "SO_KEEPALIVE": (socket.SOL_SOCKET, 1),
    "TCP_KEEPIDLE": (socket.IPPROTO_TCP, 5),
    "TCP_KEEPINTVL": (socket.IPPROTO_TCP, 2),
    "TCP_KEEPCNT": (socket.IPPROTO_TCP, 3),
    "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, 15_000),
}
"""The same for the worker's end, by which it notices that the server's machine is gone (tcp(7)):
asyncpg waits without a limit for the answer to some messages. Other systems lack some of them, or
refuse them."""
OWN_LIMITS = {
    "lock_timeout": "2s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "10s",
}
"""What counts instead of limits that the role or the database has. A statement that takes too long
ends by COMMAND_SECONDS alone, which is told apart from a server that is away. A worker that stands
still (a stopped process, a stuck disk) keeps its locks for as long as Kafka its partitions."""
WITHOUT_LIMITS = {"statement_timeout": "0", "idle_session_timeout": "0"}
"""The same for connections outside the pools, which hold a lock or wait for notifications."""
READ_ONLY = {"default_transaction_read_only": "on"}
WRITABLE = {"target_session_attrs": "read-write"}
"""Connect to a primary: a former one may be back as a standby, where every write would fail."""
PRIMARY = {"target_session_attrs": "primary"}
"""The same for a connection that is READ_ONLY, which WRITABLE would refuse. A standby may lack what
has been committed since: an audit would find that Kafka has events and PostgreSQL has not."""

NO_PRIMARY = asyncpg.TargetServerAttributeNotMatched
"""The server is a standby."""


def name_the_server(error: Exception) -> None:
    """Say in a TimeoutError that PostgreSQL is meant: a log line has no more than the error."""
    if isinstance(error, TimeoutError) and not error.args:
        error.args = ("PostgreSQL does not answer in time",)


class _Connection(asyncpg.Connection):
    """A connection that ends with a commit that takes too long, instead of having it cancelled.

    A commit that waits for a synchronous standby is seen by nobody. One whose wait is cancelled is
    seen by all, without being on the standby: its request is answered when it is repeated, and its
    event is sent. A failover to the standby would lose an order that was promised.
    """

    _is_committing = False

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        self._is_committing = query == "COMMIT;"
        try:
            return str(await super().execute(query, *args, timeout=timeout))
        finally:
            self._is_committing = False

    def _cancel_current_command(self, waiter: Any, cancel_waiter: Any = None) -> None:
        # A statement outside a transaction commits itself.
        if self._protocol.is_in_transaction() and not self._is_committing:
            super()._cancel_current_command(waiter, cancel_waiter)
        else:
            self._loop.call_soon(self._end_uncancelled, waiter)

    def _end_uncancelled(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)
        self.terminate()


class Hosts:
    """The hosts of a database; one that fails moves to the end.

    All connections are to one host, and end when another one takes its place: a former primary that
    only stood still would answer with what is no longer true.
    """

    def __init__(self, dsn: dict[str, Any]) -> None:
        self._hosts = _each_host(dsn)
        self._chosen = self._hosts[0]
        self._connections: WeakSet[asyncpg.Connection] = WeakSet()
        """The connections to the chosen host."""

    async def connect(self, *_: None, **options: Any) -> asyncpg.Connection:
        """Connect to the first host that will do, trying the next after one of AWAY.

        asyncpg itself would wait for a silent host until all time is up. Raises one of AWAY.
        """
        share = CONNECT_SECONDS / len(self._hosts)
        failures: list[Exception] = []
        for host in list(self._hosts):
            try:
                asked = options | host | {"connection_class": _Connection}
                connection = await asyncpg.connect(**asked, timeout=share)
                self._choose(host, connection)
                return _with_socket_options(connection)
            except AWAY as error:
                self._put_last(host)
                name_the_server(error)
                failures.append(error)
            except asyncio.CancelledError:
                # A request that has waited for the pool has little time left for a silent host.
                self._put_last(host)
                raise
        # A standby is always refused: that is the reason only if there is no other.
        reasons = (one for one in failures if not isinstance(one, NO_PRIMARY))
        raise next(reasons, failures[0])

    def _choose(self, host: dict[str, Any], connection: asyncpg.Connection) -> None:
        """End the connections to another host. Raises OSError if this one answers too late."""
        if host is not self._chosen:
            if host is not self._hosts[0]:
                connection.terminate()
                raise ConnectionAbortedError("it was given up for another host")
            self._chosen = host
            for former in list(self._connections):
                former.terminate()
            self._connections.clear()
        self._connections.add(connection)

    def _put_last(self, host: dict[str, Any]) -> None:
        self._hosts.remove(host)
        self._hosts.append(host)


def _with_socket_options(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Have the kernel end the connection when the server's machine is gone."""
    end = connection._transport.get_extra_info("socket")
    if end.family not in (socket.AF_INET, socket.AF_INET6):
        return connection
    for name, (level, value) in SOCKET_OPTIONS.items():
        if option := getattr(socket, name, None):
            with suppress(OSError):
                end.setsockopt(level, option, value)
    return connection


def _each_host(dsn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the connection arguments for each host of the URL; they are separated by commas."""
    url = urlsplit(dsn.get("dsn") or "")
    login, at, hosts = url.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    urls = [url._replace(netloc=f"{login}{at}{host}") for host in hosts.split(",")]
    return [{**dsn, "dsn": urlunsplit(one)} for one in urls]
