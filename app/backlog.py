"""How long events wait for this worker, and so whether it takes new orders: first what it has."""

import random
from collections.abc import Callable
from time import time

from app.metrics import WAIT

EASY_SECONDS = 0.5
BOUND_SECONDS = 1.5
"""Of the latest waits for all handlers and, five times, for the relay, added up: up to the first
every new order is taken, past the second a trickle, in between ever fewer, by chance. All or
nothing would swing from too many to too few, for what is taken now is paid, and waits, later
(random early detection, as in RFC 7567)."""
RELAYED = 5
"""How often the relay is on that way."""
MEMORY_SECONDS = 2.0
"""A handler without events waits for none."""
TRICKLE = 100
"""New orders a second that are taken however long events wait: they are not what keeps it busy, but
Redis that is away, say, or a cold start."""


class Backlog:
    """The wait of each handler's latest events; times are in seconds of `clock`."""

    def __init__(
        self, clock: Callable[[], float] = time, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._since = clock()
        self._waits: dict[str, tuple[float, float]] = {}
        """By handler: when it took events, and how long the first of them had waited."""
        self._second, self._taken = 0, 0

    def resume(self) -> None:
        """Let waits count from here: before, this worker could not have taken the events."""
        self._since = self._clock()

    def note(self, handler: str, written_at: float, times: int = 1) -> None:
        """A handler takes events, of which the first was written then.

        An order comes by it so many `times`.
        """
        moment = self._clock()
        waited = max(0.0, moment - max(written_at, self._since))
        self._waits[handler] = moment, waited * times
        WAIT.labels(handler).set(waited)

    def admits(self) -> bool:
        """Whether one more new order may be taken."""
        moment = self._clock()
        latest = (waited for at, waited in self._waits.values() if moment - at < MEMORY_SECONDS)
        left = (BOUND_SECONDS - sum(latest)) / (BOUND_SECONDS - EASY_SECONDS)
        return self._chance() < left or self._trickles(int(moment))

    def _trickles(self, second: int) -> bool:
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken <= TRICKLE
