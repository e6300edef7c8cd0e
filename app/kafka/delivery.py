"""Delivery of what Kafka's consumer has fetched: to the queues of the streams, and to the tables.

Faust's own delivery takes several rounds of the event loop for each message. What cannot be
delivered at once is left to it, or fetched again.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from faust.events import Event
from faust.transport.drivers import aiokafka as driver

NO_PARTITION_SECONDS = 0.05
"""How often a worker whose partitions are all paused looks whether one is resumed."""


class _Entry(NamedTuple):
    """A changelog record, with the attributes that a table reads when it recovers."""

    tp: Any
    partition: int
    offset: int
    key: bytes
    value: bytes | None

    @property
    def message(self) -> "_Entry":
        return self


class Delivery(driver.Consumer):
    """The part of the consumer that delivers what it has fetched."""

    async def _wait_next_records(self, timeout: float) -> Any:
        """Fetch and deliver at once; return the records that cannot be delivered at once.

        Changelog records go to their table, the others to the queues of their topic's streams.
        Faust's own delivery takes several rounds of the event loop for each message, and decodes
        key and value of each changelog record only to write the same bytes.
        """
        if self.flow_active and not self._get_active_partitions():
            # Faust would sleep for a second, also between a recovery's last step and the streams.
            await asyncio.sleep(NO_PARTITION_SECONDS)
            return None, None
        fetched, partitions = await super()._wait_next_records(timeout)
        if not self.flow_active:
            self._put_back(fetched or {})
            return None, None
        if not fetched:
            return fetched, partitions
        changelogs, records = self.app.tables.changelog_topics, dict(fetched)
        flows = self._flows()
        for tp, found in fetched.items():
            if tp.topic in changelogs:
                self._restore(tp, records.pop(tp))
                continue
            self._forget_if_lost(tp, found[0].offset)
            is_next = self._is_next(tp, found[0].offset)
            if flows and (
                self._put_back_if_full(tp, found) or (is_next and self._deliver(tp, found))
            ):
                del records[tp]
        return records, partitions

    def _put_back(self, fetched: Mapping[Any, Sequence[Any]]) -> None:
        """Let records be fetched again, such as came while the flow was stopped.

        Faust would drop those and seek to the committed offsets. A changelog has none, so its
        recovery would never end. (A fetch that began before a rebalance gets records of all
        partitions, even of new ones: to aiokafka, an empty set of partitions means all.)
        """
        for tp, records in fetched.items():
            self._thread.seek(tp, records[0].offset)

    def _forget_if_lost(self, tp: Any, offset: int) -> None:
        """Reset the partition's offsets if the broker has lost its end, as its messages are new.

        aiokafka then goes back to the beginning, and Faust would drop every message with an offset
        that it has seen before.
        """
        read = self._read_offset[tp]
        if read is not None and offset < read:
            self.log.warning(
                "%s has lost its end: it was read to %d, now %d comes", tp, read, offset
            )
            for known in (self._gap, self._acked, self._acked_index):
                known.pop(tp, None)
            self._read_offset[tp] = self._committed_offset[tp] = None
            # Messages in flight or queued must not be tracked: their offsets are given out again.
            for message in [*self._unacked_messages, *self._waiting(tp)]:
                if message.tp == tp:
                    message.acked = True

    def _waiting(self, tp: Any) -> Iterator[Any]:
        """Yield the messages in the queues of the streams of the partition's topic."""
        streams = cast(Any, self.app.topics)._tp_to_callback.get(tp)
        for channel in streams.channels if streams else ():
            for event in channel.queue._queue:
                yield event.message

    def _restore(self, tp: Any, records: Iterable[Any]) -> None:
        recovery = cast(Any, self.app.tables).recovery
        if tp not in recovery.active_tps:
            return  # the partition was revoked meanwhile
        entries = [_Entry(tp, tp.partition, r.offset, r.key, r.value) for r in records]
        recovery.tp_to_table[tp].apply_changelog_batch(entries)
        recovery.active_offsets[tp] = entries[-1].offset
        # The broker may have lost the changelog's end since the recovery began.
        recovery.active_highwaters[tp] = min(recovery.active_highwaters[tp], self.highwater(tp) - 1)
        if recovery.in_recovery and not recovery.need_recovery():
            recovery.signal_recovery_end.set()

    def _flows(self) -> bool:
        """Return whether neither a rebalance nor a full producer buffer stops the streams."""
        buffer, flow = self.app.producer.buffer, self.app.flow_control
        is_open = flow.is_active() and not self.suspend_flow.is_set()
        return is_open and buffer.size <= buffer.max_messages

    def _is_next(self, tp: Any, offset: int) -> bool:
        """Return whether the offset follows what was read, without a gap or a repetition.

        After a seek, Faust's read offset is the next offset, not the last one that was read.
        """
        read = self._read_offset[tp]
        return read is None or offset in (read, read + 1)

    def _streams(self, tp: Any) -> Any:
        """Return what delivers to the streams of the partition's topic; None while they change."""
        topics = cast(Any, self.app.topics)
        return None if topics._tp_to_callback_lock.locked() else topics._tp_to_callback.get(tp)

    def _put_back_if_full(self, tp: Any, records: Sequence[Any]) -> bool:
        """Put the records back until the full queues have drained; return False if none is full.

        Faust would wait until there is room, and fetch nothing of any topic meanwhile: a handler
        that cannot go on would stop all others. Records that no queue could ever hold are left to
        Faust.
        """
        streams, size = self._streams(tp), len(records)
        queues = [channel.queue for channel in streams.channels] if streams else []
        full = [queue for queue in queues if size > queue.maxsize - queue.qsize()]
        if not full or any(size > queue.maxsize for queue in full):
            return False
        self._put_back({tp: records})
        streams.on_pressure_high()
        for queue in full:
            queue._pending_pressure_drop_callbacks.add(streams.on_pressure_drop)
        return True

    def _deliver(self, tp: Any, records: Sequence[Any]) -> bool:
        """Put the records into the queues of all streams of their topic.

        Returns False, and delivers nothing, if a queue lacks room, an offset is missing, or there
        are no streams. Each record is decoded once, since all streams of a topic use one schema.
        """
        streams = self._streams(tp)
        channels = list(streams.channels) if streams else []
        if not channels or records[-1].offset - records[0].offset != len(records) - 1:
            return False
        if any(len(records) > one.queue.maxsize - one.queue.qsize() for one in channels):
            return False
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
        for record in records:
            message = self._to_message(tp, record)
            message.refcount = len(channels)
            value = channels[0].schema.loads_value(self.app, message)
            event = Event(self.app, message.key, value, message.headers, message)
            for one in channels:
                one.queue.put_nowait_enhanced(
                    event,
                    on_pressure_high=streams.on_pressure_high,
                    on_pressure_drop=streams.on_pressure_drop,
                )
        self._read_offset[tp] = records[-1].offset
        return True
