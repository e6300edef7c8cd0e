"""Three Kafka brokers, each of which a test may kill, in place of the stack's one."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from devstack.kafka import Kafka
from devstack.kafka.server import new_cluster
from devstack.ports import free_port
from tests.chaos.messages import GROUP

REPLICAS = 3


class Cluster:
    """Nodes that are both brokers and controllers; each has a folder of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        controllers = {number: free_port() for number in range(1, REPLICAS + 1)}
        cluster = new_cluster()
        self.nodes = {number: Kafka(folder / f"kafka-{number}") for number in controllers}
        """The nodes by their number."""
        for number, node in self.nodes.items():
            node.number, node.controllers, node.cluster = number, controllers, cluster

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which workers and commands find the brokers, and use all of them."""
        brokers = ",".join(node.brokers for node in self.nodes.values())
        return {"KAFKA_BROKERS": brokers, "KAFKA_REPLICATION": str(REPLICAS)}

    def start(self) -> None:
        """Start all nodes, none of which answers before a second one runs. Raises ServerFailed."""
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait()

    def kill(self) -> None:
        """Kill all nodes."""
        for node in self.nodes.values():
            node.kill()

    async def leader(self) -> Kafka:
        """Return the node that leads the most partitions."""
        leaders = Counter(partition["leader"] for partition in await self._partitions())
        return self.nodes[max(leaders, key=lambda number: leaders[number])]

    async def coordinator(self) -> Kafka:
        """Return the node that coordinates the workers' group."""
        async with self._asking() as admin:
            return self.nodes[await admin.find_coordinator(GROUP)]

    async def is_in_sync(self) -> bool:
        """Return whether every partition has all of its replicas."""
        return all(len(partition["isr"]) == REPLICAS for partition in await self._partitions())

    async def _partitions(self) -> list[dict[str, Any]]:
        async with self._asking() as admin:
            return [one for topic in await admin.describe_topics() for one in topic["partitions"]]

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.environment["KAFKA_BROKERS"])
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()
