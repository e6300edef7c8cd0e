"""This service's Faust app: settings, resources, graceful shutdown, consumer and web server."""

import asyncio
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from socket import socket
from typing import Any, Protocol, cast

import faust
from aiohttp.web import TCPSite
from faust.app import BootStrategy
from faust.web.drivers.aiohttp import Web
from mode import Service
from mode.supervisors import CrashingSupervisor
from mode.types import ServiceT

from app.config import Settings
from app.kafka.broker_access import Brokers
from app.kafka.consumer import Transport
from app.kafka.recovery import Tables
from app.logs import logging_config
from app.timeouts import move_on_after

WRITE_SECONDS = 5.0
"""How long a rebalance waits for the tables' last entries: once to write them, once to flush."""

REQUEST_SECONDS = 30
"""How long a broker may take to answer. One whose machine is gone holds up the others that long. It
must be longer than a rebalance may take."""
NEVER_SECONDS = 10 * 365 * 24 * 3600
"""aiokafka leaves the group, for good, after so long without a fetch: a worker without partitions
makes none, nor one whose queues are full because PostgreSQL is away."""

FOR_BATCHES, FOR_REQUESTS = 0.4, 0.4
"""Shares of SHUTDOWN_GRACE_SECONDS; the rest is for committing offsets and leaving the group, which
comes between the two."""
MAX_MESSAGE = 2 * 1024**2
"""The largest message, in bytes: a dead letter holds one of up to 1 MiB in base64."""
MAX_BATCH = 64 * 1024
"""Bytes of one producer batch for one partition. With aiokafka's default of 16 KiB, events that
commit together would take several requests. A topic whose max.message.bytes is smaller refuses the
whole batch, valid events included."""

ACCEPTORS = 16
"""How many connections are accepted in one round of the event loop."""
MAX_CONNECTING = 1024
"""The listen backlog. When it is full (aiohttp's default is 128), a client's kernel retries after
one second, and then after two more (RFC 6298, section 2)."""

FAUST_PAGES = "/faust/"
FAUST_PREFIX = "ORDERS_FAUST"
"""The prefix of Faust's own environment variables."""


class _Site(TCPSite):
    """A listening port that accepts up to ACCEPTORS connections in each round of the event loop.

    libuv accepts one for each listening handle. Under load, rounds take long, and new connections
    would wait for seconds; so the port's socket has several handles.
    """

    async def start(self) -> None:
        self._others: list[asyncio.Server] = []
        await super().start()
        for one in cast(asyncio.Server, self._server).sockets:
            for _ in range(ACCEPTORS - 1):
                self._others.append(await self._listen(socket(fileno=os.dup(one.fileno()))))

    async def _listen(self, at: socket) -> asyncio.Server:
        server = cast(Any, self._runner.server)
        return await asyncio.get_running_loop().create_server(
            server, sock=at, ssl=self._ssl_context, backlog=self._backlog
        )

    async def stop(self) -> None:
        await super().stop()
        for other in self._others:
            other.close()


class _Web(Web):
    # The front page is our own (web/health.py). Faust's pages are served only if configured, below
    # FAUST_PAGES, and only to administrators (web/middlewares.py).
    def _enabled_blueprints(self) -> list[tuple[str, Any]]:
        if not cast(OrderApp, self.app).settings.faust_pages:
            return []
        return [
            (FAUST_PAGES, "faust.web.apps.stats:blueprint"),
            (f"{FAUST_PAGES}router", "faust.web.apps.router:blueprint"),
            (f"{FAUST_PAGES}table", "faust.web.apps.tables.blueprint"),
        ]

    def _new_transport_tcp(self) -> TCPSite:
        return _Site(
            self._runner,
            self.app.conf.web_bind,
            self.app.conf.web_port,
            backlog=MAX_CONNECTING,
            ssl_context=self.app.conf.web_ssl_context,
        )


class Resource(Protocol):
    """A resource that the worker opens before anything else starts, and closes last."""

    async def open(self) -> None:
        """Make the resource usable, without waiting for the server that it connects to."""

    async def close(self) -> None:
        """Release the resource."""


class _Resources(Service):
    def __init__(self, app: "OrderApp") -> None:
        self._app = app
        super().__init__()

    async def on_start(self) -> None:
        for resource in self._app.resources:
            await resource.open()

    async def on_stop(self) -> None:
        for resource in reversed(self._app.resources):
            await resource.close()


class _Boot(BootStrategy):
    def sensors(self) -> Iterable[ServiceT]:
        yield _Resources(cast(OrderApp, self.app))
        yield from super().sensors()


class OrderApp(faust.App):
    """A Faust app with the service's settings and the resources that its worker holds open."""

    BootStrategy = _Boot

    def __init__(self, settings: Settings, brokers: Brokers, modules: Sequence[str]) -> None:
        """`modules` are imported when the worker starts, in any order."""
        self.settings = settings
        self.resources: list[Resource] = []
        self._batches = 0
        self._idle = asyncio.Event()
        self._idle.set()
        super().__init__(
            "orders",
            # Faust prefers the environment to these arguments: a BROKER_URL or WEB_PORT that is
            # meant for another program would change what the worker depends on.
            env_prefix=FAUST_PREFIX,
            broker=[f"kafka://{address}" for address in brokers.addresses],
            broker_credentials=brokers.credentials,
            store="rocksdb://",
            TableManager=Tables,
            autodiscover=modules,
            agent_supervisor=CrashingSupervisor,
            key_serializer="raw",
            value_serializer="raw",
            broker_session_timeout=10,
            broker_heartbeat_interval=3,
            broker_request_timeout=REQUEST_SECONDS,
            broker_rebalance_timeout=20,
            broker_max_poll_interval=NEVER_SECONDS,
            broker_commit_interval=1.0,
            broker_max_poll_records=1000,
            producer_request_timeout=30,
            producer_max_request_size=MAX_MESSAGE,
            producer_max_batch_size=MAX_BATCH,
            stream_wait_empty=False,
            table_standby_replicas=0,
            topic_partitions=settings.kafka_partitions,
            topic_replication_factor=settings.kafka_replication,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_port=settings.port,
            logging_config=logging_config(settings.log_level, settings.log_format),
            web_application_options={"client_max_size": 64 * 1024},
        )

    async def stop(self) -> None:
        """Finish the batches, commit, leave the group, and then finish the requests in flight.

        Readiness ends first; requests are accepted until the group is left, since Faust stops its
        parts in the reverse order of their start. A worker that does not stop in time (Faust can
        hang while its consumer starts) is ended by `os._exit`. That is as safe as `kill -9`:
        uncommitted messages are redelivered.
        """
        watchdog = threading.Timer(self.settings.shutdown_grace_seconds, os._exit, (1,))
        watchdog.daemon = True
        watchdog.start()
        await super().stop()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Mark a batch as in progress, so that a stopping worker waits for it."""
        self._batches += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._batches -= 1
            if not self._batches:
                self._idle.set()

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Wait for the batches if the worker is stopping, then write the tables.

        Faust calls this after the last fetch and before the tables close, and before partitions are
        revoked. A rebalance does not wait for batches.
        """
        if self.should_stop:
            async with move_on_after(self.settings.shutdown_grace_seconds * FOR_BATCHES):
                await self._idle.wait()
        # Bounded: a changelog that cannot be written must not hold up all partitions. Lost marks
        # cost only the first check against redelivery.
        async with move_on_after(WRITE_SECONDS):
            await self.write_tables()

    async def _producer_flush(self, logger: Any) -> None:
        async with move_on_after(WRITE_SECONDS):
            await super()._producer_flush(logger)

    async def write_tables(self) -> None:
        """Write all tables' entries to disk and hand them to the producer."""
        for table in self.tables.values():
            await cast(Any, table).write()

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_web(self) -> _Web:
        return _Web(self)
