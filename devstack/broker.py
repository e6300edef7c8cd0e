"""What the two brokers have in common: Kafka's protocol."""

import socket
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from devstack.server import Server, ask


class Broker(Server):
    """A server of Kafka's protocol."""

    worker_environment: ClassVar[dict[str, str]] = {}
    """What the worker's environment needs besides the address."""

    @property
    def brokers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            # Before it listens, the client would log an error for each question.
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
            return ask(_is_member(self.brokers), 5)
        except (OSError, TimeoutError, KafkaError):
            return False


async def _is_member(brokers: str) -> bool:
    """Whether the broker has joined its own cluster, and so can create topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers, request_timeout_ms=3000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    finally:
        await admin.close()
