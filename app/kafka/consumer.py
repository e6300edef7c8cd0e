"""Faust's Kafka consumer and producer, changed so that rebalances and commits lose no messages."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.kafka.client import STOP_SECONDS, ConsumerThread
from app.kafka.coordination import crash_with
from app.kafka.delivery import Delivery
from app.resilience.timeouts import leave_after


class _Moved(Exception):
    """Raised instead of committing offsets that were chosen before a rebalance."""


class _Consumer(Delivery):
    """The consumer: what it does in a rebalance, and which offsets it commits."""

    _chosen_in = 0
    """The generation of the group in which offsets to be committed were chosen."""

    def assignment(self) -> set[TP]:
        """Return the assigned partitions, as a set of the caller's own: the thread's is shared."""
        return set(super().assignment())

    def without_leader(self, tps: Iterable[TP]) -> set[TP]:
        """Return those of the partitions whose leader is not known, or away."""
        return cast(ConsumerThread, self._thread).without_leader(tps)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Stop the flow first: a worker without partitions, or its recovery, may have left it open.

        What is fetched before the tables are recovered would be delivered at once.
        """
        self.stop_flow()
        self.app.flow_control.suspend()
        self._buffered_partitions.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_stop(self) -> None:
        """Commit once more, if Kafka answers in time; what is not committed is redelivered."""
        await leave_after(STOP_SECONDS, super().on_stop())

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust would log each idle partition as an error, every 2.5 s.

        It expects each partition in the answers to fetches, which name only those with news here.
        The audit finds orders that do not move on.
        """

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """Do nothing, for the same reason."""

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, with the flow stopped so that nothing is fetched.

        After a recovery, Faust resumes the streams' partitions, seeks, and then resumes the flow,
        which empties the streams' queues. But recovery leaves the flow open, so messages fetched
        before the queues are emptied would be lost: the position is past them, and Faust would take
        them for a gap in the topic and commit it. Faust resumes the flow after every seek.
        """
        self.stop_flow()
        await super().perform_seek()

    async def _commit_offsets(self, *arguments: Any, **options: Any) -> bool:
        """Commit offsets, after the tables' entries (marks of handled events) are written.

        Faust flushes the producer before it commits.
        """
        self._chosen_in = self.app.consumer_generation_id
        await cast(Any, self.app).write_tables()
        try:
            done = await super()._commit_offsets(*arguments, **options)
        except _Moved:
            return False
        for tp, read in self._read_offset.items():
            committed = self._committed_offset[tp]
            if read is not None and committed is not None and committed > read + 1:
                self._committed_offset[tp] = None  # the partition has lost its end meanwhile
        return done

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit, unless there was a rebalance since the offsets were chosen, or there is one.

        A partition that has been away may have later offsets by now. And while aiokafka joins the
        group, the broker would answer the commit after that, and refuse it, for which aiokafka
        would join once more. Raises _Moved.
        """
        is_joining = cast(Any, self._thread)._consumer._coordinator._performed_join_prepare
        if is_joining or self.app.consumer_generation_id != self._chosen_in:
            raise _Moved
        return bool(await super()._commit(offsets))

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Log the gap: events are neither compacted nor sent in transactions, so it is unusual.

        If nothing that was read before it waits for its commit, go on behind it, as after a seek.
        Faust would list all offsets of the gap: gigabytes for a partition that was left alone for
        longer than its retention.
        """
        self.log.warning("%s has nothing from %d to %d", tp, offset_from, offset_to - 1)
        # An offset that is being committed stands nowhere, and would replace what is set meanwhile.
        await self.maybe_wait_for_commit_to_finish()
        if self._committed_offset[tp] == offset_from - 1 and not self._is_under_way(tp):
            self._committed_offset[tp], self._read_offset[tp] = offset_to, offset_to - 1
        else:
            await super()._add_gap(tp, offset_from, offset_to)

    def _is_under_way(self, tp: Any) -> bool:
        """Return whether anything of the partition is in flight, or waits for its commit."""
        messages = (*self._unacked_messages, *self._waiting(tp))
        is_handled = any(message.tp == tp and not message.acked for message in messages)
        return is_handled or bool(self._acked[tp])


class _Producer(driver.Producer):
    async def on_start(self) -> None:
        await super().on_start()
        client = cast(Any, self._producer)
        crash_with(self, client._sender.sender_task, client.client._sync_task)

    async def on_stop(self) -> None:
        """Flush and stop, if Kafka answers in time."""
        await leave_after(STOP_SECONDS, super().on_stop())


class Transport(driver.Transport):
    """Faust's Kafka transport, with this service's consumer and producer."""

    Consumer, Producer = _Consumer, _Producer
