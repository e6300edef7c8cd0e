"""The system that is measured: servers, schema, a catalogue, and a number of workers."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self
from uuid import uuid4

import asyncpg

from bench.customers import token
from bench.plan import Plan
from devstack.interrupt import pause
from devstack.ports import free_port
from devstack.server import Server, ServerFailed
from devstack.stack import Stack
from devstack.worker import Worker, faust

PRODUCTS = 100
"""The size of the catalogue: with a single product, orders would contend for its row's lock."""
PIECES = 1_000_000_000
SETTINGS = {
    # Orders that are only placed must not expire while others are measured.
    "ORDER_TTL_SECONDS": "86400",
}
"""Settings of the workers that differ from the defaults."""

Say = Callable[[str], None]
"""A function that is given a line for each step that begins."""


class Failed(Exception):
    """Raised when the benchmark itself fails; the text is one line."""


class Site:
    """A new system in `folder`, with `workers` workers and `partitions` partitions per topic."""

    def __init__(self, folder: Path, workers: int, partitions: int, say: Say) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._say = say
        self.partitions = partitions
        self.secret = secrets.token_urlsafe(48)
        self.stack = Stack(folder)
        self.workers: list[Worker] = []
        self._wanted = workers
        self.products: list[str] = []
        self.placed = 0
        """How many orders should be in the tables, according to their customers."""
        self.is_broken = False
        """Whether the auditor has found something; if so, data and logs are kept on exit."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of workers and commands."""
        own = {"JWT_SECRET": self.secret, "KAFKA_PARTITIONS": str(self.partitions)}
        return {**os.environ, **SETTINGS, **own, **self.stack.environment}

    @property
    def programs(self) -> dict[str, list[int]]:
        """The process ids by program."""
        servers: dict[str, Sequence[Server]] = {
            "worker": self.workers,
            "postgres": [self.stack.postgres],
            "kafka": [self.stack.broker],
            "redis": [self.stack.redis],
        }
        return {name: [one.pid for one in all if one.pid] for name, all in servers.items()}

    def plan(self, scenario: str, size: float, seconds: float, warm_up: float) -> str:
        """Return the load generator's plan as JSON."""
        plan = Plan(
            urls=[worker.url.replace("localhost", "127.0.0.1") for worker in self.workers],
            brokers=self.stack.broker.brokers,
            partitions=self.partitions,
            database=self.stack.postgres.url,
            secret=self.secret,
            products=self.products,
            programs=self.programs,
            scenario=scenario,
            size=size,
            seconds=seconds,
            warm_up=warm_up,
        )
        return json.dumps(asdict(plan))

    def __enter__(self) -> Self:
        try:
            self.stack.start()
            self.command("migrate")
            for _ in range(self._wanted):
                self.start_worker()
            self.wait_ready()
            if self.workers:
                self.products = [self._add_product(number) for number in range(PRODUCTS)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop()
        self.stack.stop()
        if self.is_broken:
            evidence = self._folder.with_name(f"{self._folder.name}.broken")
            shutil.rmtree(evidence, ignore_errors=True)
            self._folder.rename(evidence)

    def start_worker(self) -> None:
        """Start one more worker."""
        number = len(self.workers)
        environment = {**self.environment, "PORT": str(free_port())}
        folder = self._folder / f"worker-{number}"
        worker = Worker(environment, folder, self._folder / "logs" / f"worker-{number}.log")
        worker.start()
        self.workers.append(worker)

    def wait_ready(self, seconds: float = 120) -> None:
        """Wait until all workers are ready at once, since each that joins interrupts the others.

        Raises ServerFailed.
        """
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            worker.wait_ready(seconds)
        while not all(worker.answers() for worker in self.workers):
            if time.monotonic() > deadline:
                raise ServerFailed(
                    "worker", "the workers are never ready together", "See the logs."
                )
            pause(0.2)

    def orders(self) -> int:
        """Return how many orders are in the tables."""

        async def count() -> int:
            connection = await asyncpg.connect(self.stack.postgres.url)
            try:
                return int(await connection.fetchval("select count(*) from orders"))
            finally:
                await connection.close()

        return asyncio.run(count())

    def command(self, *arguments: str, seconds: float = 600) -> tuple[int, str]:
        """Run `faust -A app …`; return exit code and output. Raises Failed if `migrate` fails."""
        done = subprocess.run(
            faust(*arguments), env=self.environment, capture_output=True, text=True, timeout=seconds
        )
        output = done.stdout + done.stderr
        if done.returncode and arguments[0] == "migrate":
            raise Failed(f"migrate failed: {output}")
        return done.returncode, output.strip()

    def _add_product(self, number: int) -> str:
        body = {"productName": f"Product {number}", "price": 10 + number, "quantity": PIECES}
        request = urllib.request.Request(
            f"{self.workers[0].url}/api/products",
            json.dumps(body).encode(),
            {
                "Authorization": f"Bearer {token(self.secret, str(uuid4()), 'ADMIN')}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["id"])
