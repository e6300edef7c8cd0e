"""How long events wait for this worker, and so whether it takes new orders: first what it has."""

from collections.abc import Callable
from time import time

from app.metrics import WAIT

BOUND_SECONDS = 0.5
"""For one hop. A lifecycle has five, and ends within two seconds or so while none is longer."""
MEMORY_SECONDS = 2.0
"""A handler without events waits for none."""
TRICKLE = 20
"""New orders a second that are taken however long events wait: they are not what keeps it busy."""


class Backlog:
    """The wait of each handler's latest events; times are in seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._since = clock()
        self._waits: dict[str, tuple[float, float]] = {}
        """By handler: when it took events, and how long the first of them had waited."""
        self._second, self._taken = 0, 0

    def resume(self) -> None:
        """Let waits count from here: before, this worker could not have taken the events."""
        self._since = self._clock()

    def note(self, handler: str, written_at: float) -> None:
        """A handler takes events, of which the first was written then."""
        moment = self._clock()
        waited = max(0.0, moment - max(written_at, self._since))
        self._waits[handler] = moment, waited
        WAIT.labels(handler).set(waited)

    def admits(self) -> bool:
        """Whether one more new order may be taken."""
        moment = self._clock()
        if not self._is_long(moment):
            return True
        if int(moment) != self._second:
            self._second, self._taken = int(moment), 0
        self._taken += 1
        return self._taken <= TRICKLE

    def _is_long(self, moment: float) -> bool:
        return any(
            waited > BOUND_SECONDS and moment - at < MEMORY_SECONDS
            for at, waited in self._waits.values()
        )
