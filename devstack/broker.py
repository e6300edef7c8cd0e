"""The common part of the two brokers, which both speak Kafka's protocol."""

import socket
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from devstack.server import Server, ask


class Broker(Server):
    """A server that speaks Kafka's protocol."""

    worker_environment: ClassVar[dict[str, str]] = {}
    """Environment variables that the worker needs besides the address."""

    @property
    def brokers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            # While the broker does not listen yet, the client would log an error for each try.
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
            return ask(_is_member(self.brokers), 5)
        except (OSError, TimeoutError, KafkaError):
            return False


async def _is_member(brokers: str) -> bool:
    """Return whether the broker has joined its own cluster, and so can create topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers, request_timeout_ms=3000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    finally:
        await admin.close()
