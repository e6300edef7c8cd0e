"""Apache Kafka as one node in KRaft mode."""

from devstack.kafka.install import Installation, install
from devstack.kafka.server import Kafka

__all__ = ["Installation", "Kafka", "install"]
