"""The server itself."""

import base64
import os
import shutil
import uuid
from pathlib import Path

from devstack.broker import Broker
from devstack.kafka.install import REMEDY, VERSION, install
from devstack.ports import free_port

_LOGGING = Path(__file__).with_name("log4j2.properties")


class Kafka(Broker):
    """One node that is its own controller, with its data on disk."""

    name = "Apache Kafka"
    remedy = REMEDY
    version = VERSION
    advertised_port: int | None = None
    """Where clients are sent instead of to its own port: a proxy in front of it."""

    def prepare(self) -> None:
        super().prepare()
        self._installation = install(self.log.with_name("maven.log"))
        self._properties.write_text(self._configuration())
        # Written last by the formatting, so without it the folder holds nothing of worth.
        if not (self._data / "meta.properties").exists():
            shutil.rmtree(self._data, ignore_errors=True)
            self._format()

    def command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self._properties))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        tool = self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}")
        self._run([*tool, "--config", str(self._properties)])

    def _java(self, main: str, *arguments: str) -> list[str]:
        libraries = self._installation.libraries
        return [
            self._installation.java,
            "-Xmx512m",
            # The quick compiler and a collector without threads of its own leave a small machine
            # to the application, above all in the first minute.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={_LOGGING}",
            *("-cp", f"{libraries}{os.sep}*", main, *arguments),
        ]

    def _configuration(self) -> str:
        controller = free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            # A fixed list of voters is not stored, so that the controller's port may change.
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "listeners": f"CLIENTS://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"CLIENTS://127.0.0.1:{self.advertised_port or self.port}",
            "log.dirs": self._data,
            # A misspelt topic is an error, and no topic appears with the wrong partition count.
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 8,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # The one worker need not wait for others that might join.
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker can register again only when its old session is over.
            "broker.session.timeout.ms": 4000,
            "broker.heartbeat.interval.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())
