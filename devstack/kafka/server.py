"""The Kafka server."""

import base64
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from devstack.broker import Broker
from devstack.kafka.install import REMEDY, VERSION, install
from devstack.ports import free_port

_LOGGING = Path(__file__).with_name("log4j2.properties")


class Kafka(Broker):
    """One Kafka node, both broker and controller, with its data on disk; alone or in a cluster."""

    name = "Apache Kafka"
    remedy = REMEDY
    version = VERSION
    number = 1
    controllers: Mapping[int, int] = MappingProxyType({})
    """The controllers' ports of all nodes of its cluster, by node; none if it is alone."""
    cluster: str | None = None
    """The id of its cluster, the same at all nodes; None for a new one."""
    advertised_port: int | None = None
    """The port that clients are told to use instead of its own, such as that of a proxy."""
    secured_ports: Mapping[str, int] = MappingProxyType({})
    """Ports of further listeners, by their security protocol, SSL or SASL_SSL."""
    security: Mapping[str, object] = MappingProxyType({})
    """The settings of these listeners: keys, and who may log in."""
    scram_users: Mapping[str, str] = MappingProxyType({})
    """Passwords of SCRAM-SHA-512 by user, which a new data folder is given."""

    def prepare(self) -> None:
        super().prepare()
        self._installation = install(self.log.with_name("maven.log"))
        self._properties.write_text(self._configuration())
        # The format tool writes this file last, so without it the folder holds no usable data.
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
        cluster = self.cluster or new_cluster()
        tool = self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}")
        users = [
            f"--add-scram=SCRAM-SHA-512=[name={name},password={password}]"
            for name, password in self.scram_users.items()
        ]
        self._run([*tool, "--config", str(self._properties), *users])

    def _java(self, main: str, *arguments: str) -> list[str]:
        libraries = self._installation.libraries
        return [
            self._installation.java,
            "-Xmx512m",
            # The C1 compiler and a single-threaded garbage collector leave more of a small machine
            # to the application, especially in the first minute.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={_LOGGING}",
            *("-cp", f"{libraries}{os.sep}*", main, *arguments),
        ]

    def _configuration(self) -> str:
        # A static list of voters is not stored, so the port of a lonely controller may change.
        controllers = self.controllers or {self.number: free_port()}
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in controllers.items())
        replicas, in_sync = len(controllers), max(1, len(controllers) - 1)
        listeners = {"CLIENTS": self.port, "CONTROLLER": controllers[self.number]}
        listeners |= self.secured_ports
        advertised = {"CLIENTS": self.advertised_port or self.port, **self.secured_ports}
        protocols = {"CLIENTS": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        protocols |= {name: name for name in self.secured_ports}
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.number,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
            "inter.broker.listener.name": "CLIENTS",
            "listeners": _listeners(listeners),
            "advertised.listeners": _listeners(advertised),
            "log.dirs": self._data,
            # So that a misspelt topic is an error, and none is created with the wrong partitions.
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 8,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 8,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            # A single worker need not wait for others to join.
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker can register again only when its old session has timed out.
            "broker.session.timeout.ms": 4000,
            "broker.heartbeat.interval.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            **self.security,
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())


def new_cluster() -> str:
    """Return an id for a new cluster."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()


def _listeners(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
