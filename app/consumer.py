"""How Faust reads Kafka here: quickly, and without losing what a rebalance interrupts."""

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from faust.transport.drivers import aiokafka as driver

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
        consumer._fetch_max_wait_ms = cast(Any, self.app).settings.kafka_fetch_wait_ms
        return consumer

    async def seek_to_committed(self) -> Any:
        """Seek every partition of a stream; one without a commit to its beginning.

        aiokafka leaves the latter where it is, behind what was fetched and thrown away.
        """
        return await self.call_thread(self._seek_to_committed)

    async def _seek_to_committed(self) -> Any:
        consumer = self._ensure_consumer()
        committed = await consumer.seek_to_committed()
        changelogs = self.app.tables.changelog_topics
        fresh = [tp for tp, at in committed.items() if not at and tp.topic not in changelogs]
        if fresh:
            await consumer.seek_to_beginning(*fresh)
        return committed


class _Entry(NamedTuple):
    """What a table takes of a record of its changelog."""

    tp: Any
    partition: int
    offset: int
    key: bytes
    value: bytes | None

    @property
    def message(self) -> "_Entry":
        return self


class _Consumer(driver.Consumer):
    _room = 0
    """How many messages every stream has room for at least."""

    async def _wait_next_records(self, timeout: float) -> Any:
        """What was fetched but for the changelogs, which the tables take at once.

        Faust's way delivers each entry like an event, several rounds of the loop and two JSON
        values for each, to write the very bytes that came.
        """
        fetched, partitions = await super()._wait_next_records(timeout)
        if not fetched or not self.flow_active:
            return fetched, partitions
        changelogs, records = self.app.tables.changelog_topics, dict(fetched)
        for tp in [tp for tp in records if tp.topic in changelogs]:
            self._restore(tp, records.pop(tp))
        return records, partitions

    def _restore(self, tp: Any, records: Iterable[Any]) -> None:
        recovery = cast(Any, self.app.tables).recovery
        if tp not in recovery.active_tps:
            return  # taken away since
        entries = [_Entry(tp, tp.partition, r.offset, r.key, r.value) for r in records]
        recovery.tp_to_table[tp].apply_changelog_batch(entries)
        recovery.active_offsets[tp] = entries[-1].offset
        if recovery.in_recovery and not recovery.need_recovery():
            recovery.signal_recovery_end.set()

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek to what is committed, while nothing is fetched.

        Faust resumes the streams' partitions first, with the flow that recovery has left open, and
        throws away what is in the streams afterwards, when it resumes the flow: whatever was
        fetched in between, past the position sought, would be lost, and taken for a gap in the
        topic, would be committed. It resumes the flow after every seek.
        """
        self.stop_flow()
        await super().perform_seek()

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Events are neither compacted nor sent in transactions, so a gap is worth a look."""
        self.log.warning("%s has nothing from %d to %d", tp, offset_from, offset_to - 1)
        await super()._add_gap(tp, offset_from, offset_to)

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
        return flows and self._has_room() and buffer.size <= buffer.max_messages

    def _has_room(self) -> bool:
        """Whether every stream takes one more message; they are asked when one could be full."""
        if self._room <= 0:
            queues = self.app.flow_control._queues
            self._room = min((queue.maxsize - queue.qsize() for queue in queues), default=0)
        self._room -= 1
        return self._room >= 0


class Transport(driver.Transport):
    """The way to Kafka, as this service takes it."""

    Consumer = _Consumer
