"""A deployment of the service that a test may break."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import asyncpg

from devstack.keep import Kept
from devstack.ports import free_port
from devstack.server import Server
from devstack.stack import Stack
from devstack.worker import Worker
from tests.chaos.waiting import POLL_SECONDS
from tests.conftest import SECRET
from tests.furnish import furnish

log = logging.getLogger(__name__)


class Deployment:
    """Servers with schema and catalogue, and the workers that were started so far."""

    def __init__(self, stack: Stack, environment: dict[str, str], folder: Path) -> None:
        self.stack = stack
        self.workers: list[Worker] = []
        self.poison: set[UUID] = set()
        """Keys of planted messages that no handler can process."""
        self._environment = environment
        self._folder = folder
        self._kept: dict[Worker, Kept] = {}

    @property
    def database(self) -> str:
        """PostgreSQL's address."""
        return self.stack.postgres.url

    @property
    def environment(self) -> dict[str, str]:
        """The environment of workers and commands."""
        return self._environment

    @property
    def brokers(self) -> str:
        """Kafka's addresses."""
        return self._environment["KAFKA_BROKERS"]

    def urls(self) -> list[str]:
        """Return the addresses of the workers."""
        return [worker.url for worker in self.workers]

    def start_worker(self) -> Worker:
        """Start one more worker, without waiting for it."""
        name = f"worker-{len(self._kept)}"
        environment = {**self._environment, "PORT": str(free_port())}
        folder = self._folder / name / "data"
        worker = Worker(environment, folder, self._folder / "logs" / f"{name}.log")
        worker.start()
        self.workers.append(worker)
        self._kept[worker] = Kept(worker, log.warning)
        return worker

    async def change(self, statement: str, *arguments: Any) -> None:
        """Execute a statement that no part of the service would."""
        connection = await asyncpg.connect(self.database)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def start_ready_worker(self) -> Worker:
        """Start one more worker, and wait until it takes requests and events."""
        worker = self.start_worker()
        await asyncio.to_thread(worker.wait_ready)
        return worker

    def kill_for_good(self, worker: Worker) -> None:
        """Kill a worker and do not restart it."""
        self.workers.remove(worker)
        worker.kill()

    def close(self) -> None:
        """Kill every worker."""
        for worker in self.workers:
            worker.kill()

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Restart workers that end, as a supervisor in production does."""
        supervisor = asyncio.create_task(self._supervise())
        try:
            yield
        finally:
            supervisor.cancel()

    async def _supervise(self) -> None:
        while True:
            for worker in self.workers:
                self._kept[worker].tend()
            await asyncio.sleep(POLL_SECONDS)


@contextmanager
def deployed(
    stack: Stack, folder: Path, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Deployment]:
    """Give the servers schema, topics and catalogue; no worker runs yet, and none afterwards.

    `more` are variables of workers and commands besides those of the servers.
    """
    environment = {**stack.environment, **more, "JWT_SECRET": SECRET}
    furnish(environment, catalogue=True)
    deployment = Deployment(stack, environment, folder)
    try:
        yield deployment
    finally:
        deployment.close()


@contextmanager
def frozen(worker: Worker) -> Iterator[None]:
    """Have the worker's process stand still while the context lasts."""
    pid = worker.pid if worker.alive else None
    with suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            if pid and worker.pid == pid:
                os.kill(pid, signal.SIGCONT)


async def start_again(server: Server) -> None:
    """Restart a killed server with its data, without blocking the event loop."""
    # Launched from this thread: a child that another thread starts would not end with this process.
    server.launch()
    await asyncio.to_thread(server.wait)
