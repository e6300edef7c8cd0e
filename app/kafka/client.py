"""Kafka's client of the consumer: aiokafka's, in the worker's own event loop."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import BrokerMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.utils.futures import maybe_async

from app.kafka.coordination import crash_with
from app.kafka.fetching import NOWHERE, FetchSessions
from app.resilience.timeouts import leave_after, move_on_after

STOP_SECONDS = 5.0
"""How long a worker that stops waits for Kafka, each time: to commit, to leave, to flush."""

ANSWER_SECONDS, TRIES = 2.0, 3
"""How long a broker may take to tell which brokers there are, and how often one is asked."""

_send = AIOKafkaConnection.send


def _send_or_break(self: AIOKafkaConnection, *args: Any, **kwargs: Any) -> Any:
    """Turn uvloop's RuntimeError for a closed transport into a broken connection.

    aiokafka expects an OSError. Any other error ends its metadata task for good; the consumer then
    looks healthy, but neither commits nor sends heartbeats.
    """
    try:
        return _send(self, *args, **kwargs)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"broken connection: {error}") from error


_update = AIOKafkaClient._metadata_update


async def _update_or_remember(self: AIOKafkaClient, *args: Any) -> bool:
    """Update the metadata; if no broker can be asked, ask those of KAFKA_BROKERS as well next time.

    aiokafka asks only brokers that it knows from others, for ever, though all have moved. And it
    would wait for one that stands still as long as for any request: nobody would learn that others
    lead its partitions. It asks in random order, so the next try mostly begins with another one.
    """
    updated = False
    for _ in range(TRIES):
        async with move_on_after(ANSWER_SECONDS):
            updated = await _update(self, *args)
            break
    if not updated:
        for host, port, _ in self.hosts:
            id = f"{host}:{port}"
            self.cluster._brokers.setdefault(id, BrokerMetadata(id, host, port, None))
    return updated


AIOKafkaConnection.send = _send_or_break
AIOKafkaClient._metadata_update = _update_or_remember


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Runs Kafka's client in the worker's event loop instead of a thread.

    Under the GIL a thread is no faster, and each fetch would pass through two queues and two event
    loops. Nothing in this service blocks the loop.
    """

    wait_for_shutdown = False
    _assigned: frozenset[Any] = frozenset()
    _assigned_as_faust: frozenset[TP] = frozenset()

    def assignment(self) -> Any:
        """Return the assigned partitions, cached: Faust builds a new set for each lookup."""
        assigned = self._ensure_consumer().assignment()
        if assigned is not self._assigned:
            self._assigned = assigned
            self._assigned_as_faust = frozenset(TP(*tp) for tp in assigned)
        return self._assigned_as_faust

    async def on_start(self) -> None:
        await super().on_start()
        client = cast(Any, self._consumer)
        client._coordinator.service = self
        tasks = (client._fetcher._fetch_task, client._coordinator._coordination_task)
        crash_with(self, *tasks, client._client._sync_task)

    async def start(self) -> None:
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        if self._started.is_set():
            await Service.stop(self)

    async def on_stop(self) -> None:
        """Leave the group. aiokafka would wait for a join under way, however long that takes.

        The others then wait for this worker until its session ends, as after a kill.
        """
        if self._consumer is not None:
            await leave_after(STOP_SECONDS, self._consumer.stop())

    async def crash(self, reason: BaseException) -> None:
        await Service.crash(self, reason)

    def _stopped_set(self) -> None:
        self._stopped.set()

    async def _stop_children(self) -> None:
        await self._default_stop_children()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def _stop_exit_stacks(self) -> None:
        await self._default_stop_exit_stacks()

    async def call_thread(self, fun: Any, *arguments: Any, **options: Any) -> Any:
        return await maybe_async(fun(*arguments, **options))

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust hard-codes 1500 ms. A fetch that waits for one partition delays the next fetch of
        # all others, so the wait has to be short.
        consumer._fetch_max_wait_ms = cast(Any, self.app).settings.kafka_fetch_wait_ms
        FetchSessions(consumer._client)
        return consumer

    def without_leader(self, tps: Iterable[TP]) -> set[TP]:
        """Return those of the partitions whose leader is not known, or away."""
        cluster = self._ensure_consumer()._client.cluster
        return {tp for tp in tps if cluster.leader_for_partition(tp) in NOWHERE}

    async def seek_to_committed(self) -> Any:
        """Seek to the committed offsets; a stream's partition without one, to its beginning.

        aiokafka leaves the latter at its position, past messages that were fetched and discarded.
        """
        consumer = self._ensure_consumer()
        tps = consumer.assignment()
        found = await consumer._coordinator.fetch_committed_offsets(tps)
        committed = {tp: _offset(found.get(tp)) for tp in tps}
        for tp, offset in committed.items():
            if offset:
                consumer.seek(tp, offset)
        changelogs, assigned = self.app.tables.changelog_topics, consumer.assignment()
        fresh = {tp for tp, at in committed.items() if not at and tp.topic not in changelogs}
        # Without waiting for the positions, as `seek_to_beginning` does: the recovery of all
        # partitions would begin again and again while one of them has no leader. Until a partition
        # has its position, nothing is fetched from it.
        if reset := fresh & assigned:
            consumer._fetcher.request_offset_reset(reset, OffsetResetStrategy.EARLIEST)
        return committed

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the offsets of assigned partitions; False if there are none any more.

        Faust would have aiokafka commit nothing, which is an error, and crash.
        """
        assigned = self.assignment()
        kept = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        return bool(kept) and await super()._commit(kept)


def _offset(committed: Any) -> int | None:
    """Return the offset of an answer about committed offsets; None if there is none."""
    return None if committed is None or committed.offset < 0 else committed.offset
