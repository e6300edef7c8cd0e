"""How tables are restored from their changelogs: Faust's way, but never given up."""

from collections import Counter
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP

READING_SECONDS = 60.0
"""How long entries are read before Kafka is asked again where the changelogs begin and end.

Otherwise a changelog that has lost unread entries at its end would be waited for without an end.
"""


class _Recovery(Recovery):
    _rebalance_count = 0
    """The number, by Faust's count, of the rebalance whose partitions are recovered."""
    _is_repeated = False
    """Whether Kafka was asked in vain before, since that rebalance."""
    _unled: frozenset[TP] = frozenset()
    """The changelogs that are not recovered, because they have no leader."""

    async def on_rebalance(self, *arguments: Any, **options: Any) -> None:
        """Begin anew. The end of the last recovery is not the end of this one."""
        self.signal_recovery_end.clear()
        self._is_repeated = False
        self._rebalance_count = cast(Any, self.app).rebalancing_count
        await super().on_rebalance(*arguments, **options)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        """Wait for a step; restart the recovery if it does not end in time.

        mode reports a timeout like a stop of the service, at which Faust would end the recovery
        task: partitions would stay assigned, and nobody would consume them. What was read is kept.
        """
        try:
            await super()._wait(coro, timeout or READING_SECONDS)
        except ServiceStopped:
            if self.should_stop:
                raise
            self.log.warning("The recovery of the tables takes long, and asks Kafka again")
            self._stop_flow()
            self._is_repeated = True
            self.signal_recovery_end.clear()
            self.signal_recovery_start.set()
            raise RebalanceAgain from None
        if self._is_over():
            # Partitions were revoked meanwhile. Going on would open the flow in a rebalance.
            raise RebalanceAgain

    def _is_over(self) -> bool:
        """Return whether partitions were revoked, or the recovery has to begin again."""
        is_revoked = cast(Any, self.app).rebalancing_count != self._rebalance_count
        return is_revoked or self.signal_recovery_start.is_set()

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Open the flow, unless the recovery is over: Faust ignores that its last wait says so."""
        if not self._is_over():
            await super().on_recovery_completed(generation_id)

    def _stop_flow(self) -> None:
        """Stop the flow as a rebalance does, because the step may have resumed some of it."""
        consumer = self.app.consumer
        consumer.stop_flow()
        self.app.flow_control.suspend()
        consumer.pause_partitions(consumer.assignment())

    async def _build_highwaters(
        self, consumer: Any, tps: set[TP], destination: Counter[TP], title: str
    ) -> None:
        """Leave out changelogs that have no leader, after Kafka was asked in vain for all.

        All partitions would wait for them. What they have no marks of, PostgreSQL recognises.
        """
        self._unled = frozenset(consumer.without_leader(tps)) if self._is_repeated else frozenset()
        for tp in sorted(self._unled):
            self.log.warning("%s has no leader, and is not read", tp)
        await super()._build_highwaters(consumer, tps - self._unled, destination, title)

    async def _build_offsets(
        self, consumer: Any, tps: set[TP], destination: Counter[TP], title: str
    ) -> None:
        """Read a changelog from its beginning if it is shorter than what the disk has seen of it.

        It was created anew, or has lost its end. Faust would stop the worker, at each start.
        """
        for tp in tps & self._unled:
            if destination[tp] is None:
                destination[tp] = -1
        tps = tps - self._unled
        for tp in tps:
            seen = destination[tp]
            if seen is not None and seen > self.active_highwaters[tp]:
                self.log.warning("%s has lost its end at %d", tp, self.active_highwaters[tp])
                cast(Any, destination)[tp] = None
        await super()._build_offsets(consumer, tps, destination, title)


class Tables(TableManager):
    """All tables, restored by `_Recovery`."""

    async def on_start(self) -> None:
        """Start at once; Faust sleeps for a second first."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> Recovery:
        """What restores them."""
        if self._recovery is None:
            self._recovery = _Recovery(
                self.app, self, beacon=self.beacon, loop=cast(Any, self).loop
            )
        return self._recovery
