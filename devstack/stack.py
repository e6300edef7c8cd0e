"""PostgreSQL, Redis and Kafka together."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from devstack.kafka import Kafka, install
from devstack.ports import Ports
from devstack.postgres import Postgres
from devstack.redis import Redis
from devstack.server import Server, ServerFailed
from devstack.tansu import Tansu

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Stack:
    """The three servers, with their data, logs and remembered ports in `folder`.

    A server that `settings` names (DB_URL, DB_HOST or DB_NAME; REDIS_URL; KAFKA_BROKERS) is not
    started here. `say` is called with a line for each step.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] = _NOTHING,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._ports = Ports(folder / "ports.json")
        self._folder = folder.absolute()
        self._settings = settings
        self._say = say
        self.postgres = Postgres(*self._place("postgres"))
        self.redis = Redis(*self._place("redis"))
        self.broker: Kafka | Tansu = Kafka(*self._place("kafka"))

    @property
    def servers(self) -> list[Server]:
        """The servers to start, slowest first."""
        named_elsewhere: list[tuple[Server, tuple[str, ...]]] = [
            (self.broker, ("KAFKA_BROKERS",)),
            (self.postgres, ("DB_URL", "DB_HOST", "DB_NAME")),
            (self.redis, ("REDIS_URL",)),
        ]
        return [
            server
            for server, names in named_elsewhere
            if not any(self._settings.get(name) for name in names)
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the worker finds the servers that are started here."""
        servers = self.servers
        environment: dict[str, str] = {}
        if self.postgres in servers:
            environment["DB_URL"] = self.postgres.url
        if self.redis in servers:
            environment["REDIS_URL"] = self.redis.url
        if self.broker in servers:
            environment["KAFKA_BROKERS"] = self.broker.brokers
            environment |= self.broker.worker_environment
        return environment

    def start(self) -> None:
        """Start all servers and wait for them. If one fails, stop all and raise ServerFailed."""
        if self.broker in self.servers:
            self.broker = self._broker_of_this_machine()
        try:
            begun = {server: _launched(server) for server in self.servers}
            for server in reversed(begun):
                server.wait()
                took = time.monotonic() - begun[server]
                self._say(f"{server.name} {server.version} ready in {took:.1f} s")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the cache first, and PostgreSQL, which holds the data of record, last."""
        for server in (self.redis, self.broker, self.postgres):
            server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _place(self, name: str) -> tuple[Path, int, Path]:
        return self._folder / name, self._ports.of(name), self._folder / "logs" / f"{name}.log"

    def _broker_of_this_machine(self) -> Kafka | Tansu:
        try:
            if self._wanted_broker() != "tansu":
                install(self._folder / "logs" / "maven.log", self._say)
                return self.broker
            reason = "DEVSTACK_BROKER asks for Tansu"
        except ServerFailed as failure:
            reason = str(failure).rstrip(".")
        self._say(f"{reason}. {Tansu.shortcomings}")
        return Tansu(*self._place("kafka"))

    def _wanted_broker(self) -> str | None:
        return self._settings.get("DEVSTACK_BROKER") or os.environ.get("DEVSTACK_BROKER")


def _launched(server: Server) -> float:
    """Launch the server, and return the time when that began."""
    begun = time.monotonic()
    server.launch()
    return begun
