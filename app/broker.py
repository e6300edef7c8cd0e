"""Faust as this service runs it: lossless acknowledgement, quick fetches, our own front page."""

import os
import threading
from collections.abc import Iterable
from typing import Any, Protocol, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from faust.app import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types.transports import ProducerT
from faust.web.drivers.aiohttp import Web
from mode import Service
from mode.supervisors import CrashingSupervisor
from mode.types import ServiceT

from app.config import Settings
from app.logs import logging_config

STOP_SECONDS = 20.0
"""How long stopping may take, requests and batches under way included."""
LARGEST_MESSAGE = 2 * 1024**2
"""Bytes. A dead letter holds a message in base64, and topics take messages of up to 1 MiB."""


_send = AIOKafkaConnection.send


def _send_or_break(self: AIOKafkaConnection, *args: Any, **kwargs: Any) -> Any:
    """Treat uvloop's RuntimeError for a closed transport as the broken connection that it is.

    aiokafka expects an OSError there. Anything else ends its metadata task for good, and with it
    every later commit and heartbeat of a consumer that seems to be well.
    """
    try:
        return _send(self, *args, **kwargs)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"broken connection: {error}") from error


AIOKafkaConnection.send = _send_or_break


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust hard-codes 1500 ms and has no setting: a fetch that waits for one partition
        # holds back the next fetch of every other.
        app = cast(OrderApp, self.app)
        consumer._fetch_max_wait_ms = app.settings.kafka_fetch_wait_ms
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def wait_first(self, *coros: Any, **kwargs: Any) -> Any:
        """Deliver a message to its streams, or give up when a rebalance suspends the flow.

        Faust makes two tasks of it and waits for either: several rounds of a busy loop for each
        message. A delivery that will not wait, for flow, the producer or room, needs none.
        """
        if len(coros) == 2 and self._delivers_at_once():
            delivery, suspended = coros
            suspended.close()
            return await delivery
        return await super().wait_first(*coros, **kwargs)

    def _delivers_at_once(self) -> bool:
        buffer, flow = self.app.producer.buffer, self.app.flow_control
        flows = flow.is_active() and not self.suspend_flow.is_set()
        has_room = not any(queue.full() for queue in flow._queues)
        return flows and has_room and buffer.size <= buffer.max_messages


class _Transport(driver.Transport):
    Consumer = _Consumer


FAUST_PAGES = "/faust/"


class _Web(Web):
    # The front page is ours: web/operations.py. Faust's pages are served where they are asked for,
    # below an address of their own, and only to administrators: web/monitor.py.
    handler_shutdown_timeout = 10.0

    def _enabled_blueprints(self) -> list[tuple[str, Any]]:
        if not cast(OrderApp, self.app).settings.faust_pages:
            return []
        return [
            (FAUST_PAGES, "faust.web.apps.stats:blueprint"),
            (f"{FAUST_PAGES}router", "faust.web.apps.router:blueprint"),
            (f"{FAUST_PAGES}table", "faust.web.apps.tables.blueprint"),
        ]


class Resource(Protocol):
    """What the worker opens before anything else starts, and closes after everything stopped."""

    async def open(self) -> None:
        """Make it usable; must not wait for what it connects to."""

    async def close(self) -> None:
        """Give it up."""


class _Resources(Service):
    def __init__(self, app: "OrderApp") -> None:
        self._app = app
        super().__init__()

    async def on_start(self) -> None:
        for resource in self._app.resources:
            await resource.open()

    async def on_stop(self) -> None:
        for resource in reversed(self._app.resources):
            await resource.close()


class _Boot(BootStrategy):
    def sensors(self) -> Iterable[ServiceT]:
        yield _Resources(cast(OrderApp, self.app))
        yield from super().sensors()


class OrderApp(faust.App):
    """A Faust app that carries the frozen settings, and the resources its worker holds open."""

    BootStrategy = _Boot

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.resources: list[Resource] = []
        super().__init__(
            "orders",
            broker=[f"kafka://{broker}" for broker in settings.kafka_brokers],
            store="rocksdb://",
            autodiscover=AUTODISCOVER,
            agent_supervisor=CrashingSupervisor,
            key_serializer="raw",
            value_serializer="raw",
            broker_session_timeout=10,
            broker_heartbeat_interval=3,
            broker_commit_interval=1.0,
            broker_max_poll_records=1000,
            producer_request_timeout=30,
            producer_max_request_size=LARGEST_MESSAGE,
            stream_wait_empty=False,
            table_standby_replicas=0,
            topic_partitions=settings.kafka_partitions,
            topic_replication_factor=settings.kafka_replication,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_port=settings.port,
            web_tables_enabled=False,
            web_router_enabled=False,
            logging_config=logging_config(settings.log_level),
            web_application_options={"client_max_size": 64 * 1024},
        )

    async def stop(self) -> None:
        """Stop; a worker that cannot (Faust hangs while its consumer starts) is ended.

        Ending it is as safe as `kill -9`: what was not committed is redelivered.
        """
        watchdog = threading.Timer(STOP_SECONDS, os._exit, (1,))
        watchdog.daemon = True
        watchdog.start()
        await super().stop()

    async def maybe_start_producer(self) -> ProducerT:
        """The producer, without a round of the loop for each message of a changelog."""
        if not self.producer.started:
            await self.producer.maybe_start()
        return self.producer

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _new_web(self) -> _Web:
        return _Web(self)


AUTODISCOVER = [
    "app.commands",
    "app.parked_command",
    "app.background",
    "tables.handled",
    "tables.replays",
    "agents.payment",
    "agents.checkout",
    "agents.inventory",
    "agents.order_status",
    "agents.notification",
    "web.middlewares",
    "web.protocol",
    "web.accounts",
    "web.products",
    "web.orders",
    "web.order_actions",
    "web.checkout",
    "web.stripe_webhook",
    "web.order_events",
    "web.parked",
    "web.operations",
    "web.monitor",
    "web.documents",
    "web.problem_pages",
]
"""Each module by name: Faust lets a listed module's import error stop the worker, no other's.

Faust imports them in any order.
"""
