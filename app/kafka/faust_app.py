"""This service's Faust app: settings, resources, graceful shutdown, and the consumer's parts."""

import asyncio
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Any, Protocol, cast

import faust
from faust.app import BootStrategy
from mode import Service
from mode.supervisors import CrashingSupervisor
from mode.types import ServiceT

from app.config import Settings
from app.db.pools import Database
from app.http_site import OrderWeb
from app.kafka.broker_access import METADATA_SECONDS, Brokers
from app.kafka.consumer import Transport
from app.kafka.producing import MAX_BATCH, MAX_MESSAGE
from app.kafka.recovery import Tables
from app.logs import logging_config
from app.resilience.timeouts import move_on_after

WRITE_SECONDS = 5.0
"""How long a rebalance waits for the tables' last entries: once to write them, once to flush."""

REQUEST_SECONDS = 30
"""How long a broker may take to answer. One whose machine is gone holds up the others that long. It
must be longer than a rebalance may take."""
NEVER_SECONDS = 10 * 365 * 24 * 3600
"""aiokafka leaves the group, for good, after so long without a fetch: a worker without partitions
makes none, nor one whose queues are full because PostgreSQL is away."""

FOR_BATCHES = 0.4
"""The share of SHUTDOWN_GRACE_SECONDS for batches in progress. `http_site.FOR_REQUESTS` is another;
the rest is for committing offsets and leaving the group, which comes between the two."""
FAUST_PREFIX = "ORDERS_FAUST"
"""The prefix of Faust's own environment variables."""


class Resource(Protocol):
    """What connects to a server when it is needed, and is closed last."""

    async def close(self) -> None:
        """Close the connections."""


class _Resources(Service):
    def __init__(self, app: "OrderApp") -> None:
        self._app = app
        super().__init__()

    async def on_start(self) -> None:
        allow_open_files()
        for pool in self._app.pools:
            await pool.open()

    async def on_stop(self) -> None:
        for resource in reversed([*self._app.pools, *self._app.resources]):
            await resource.close()


def allow_open_files() -> None:
    """Raise the limit on open files to the most that this process may have.

    Usually 1,024 are allowed, and many more to a process that asks. Each partition of a table has
    about eight, more with its entries, and RocksDB ends the worker if it cannot open one.
    """
    with suppress(OSError, ValueError):  # some systems allow less than they say
        _, most = getrlimit(RLIMIT_NOFILE)
        setrlimit(RLIMIT_NOFILE, (most, most))


class _Boot(BootStrategy):
    def sensors(self) -> Iterable[ServiceT]:
        yield _Resources(cast(OrderApp, self.app))
        yield from super().sensors()


class OrderApp(faust.App):
    """A Faust app with the service's settings, and the pools and clients that its worker holds."""

    BootStrategy = _Boot

    def __init__(self, settings: Settings, brokers: Brokers, modules: Sequence[str]) -> None:
        """`modules` are imported when the worker starts, in any order."""
        self.settings = settings
        self.pools: list[Database] = []
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
            consumer_metadata_max_age_ms=METADATA_SECONDS * 1000,
            producer_request_timeout=30,
            producer_metadata_max_age_ms=METADATA_SECONDS * 1000,
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
        """Write all tables' entries to disk and hand them to the producer.

        A worker that stops goes on without what its disk does not take: it has requests to finish
        and a group to leave, and its log has to end with what made it stop.
        """
        for table in self.tables.values():
            try:
                await cast(Any, table).write()
            except Exception as error:
                if not self.should_stop:
                    raise
                self.log.error("Entries of %s are not written: %r", table.name, error)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_web(self) -> OrderWeb:
        return OrderWeb(self)
