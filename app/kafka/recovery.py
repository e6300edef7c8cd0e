"""How tables are restored from their changelogs: Faust's way, but never given up."""

from collections import Counter
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP

NOTHING = -1
"""What Faust takes for the offset of a changelog of which nothing was read."""


class _Recovery(Recovery):
    async def on_rebalance(self, *arguments: Any, **options: Any) -> None:
        """Begin anew. The end of the last recovery is not the end of this one."""
        self.signal_recovery_end.clear()
        await super().on_rebalance(*arguments, **options)

    async def _wait(self, *arguments: Any, **options: Any) -> None:
        """Wait for a step, and begin the recovery again where a broker does not answer in time.

        mode tells a timeout as if the service was stopped, and Faust would end the task: partitions
        would stay assigned, and nobody would consume them.
        """
        try:
            await super()._wait(*arguments, **options)
        except ServiceStopped:
            if self.should_stop:
                raise
            self.log.warning("Kafka does not answer; the tables' recovery begins again")
            self.signal_recovery_start.set()
            raise RebalanceAgain from None

    async def _build_offsets(
        self, consumer: Any, tps: set[TP], destination: Counter[TP], title: str
    ) -> None:
        """Read a changelog that is shorter than what the disk has seen of it from its beginning.

        It was made anew, or has lost its end. Faust would stop the worker, again at each start.
        """
        await super()._build_offsets(consumer, tps, destination, title)
        for tp in tps:
            if destination[tp] > self.active_highwaters[tp]:
                self.log.warning("%s has lost its end at %d", tp, self.active_highwaters[tp])
                destination[tp] = NOTHING


class Tables(TableManager):
    """All tables, restored by `_Recovery`."""

    @property
    def recovery(self) -> Recovery:
        """What restores them."""
        if self._recovery is None:
            self._recovery = _Recovery(
                self.app, self, beacon=self.beacon, loop=cast(Any, self).loop
            )
        return self._recovery
