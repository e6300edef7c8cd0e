"""How long events wait for this worker, and so how many new orders it takes: first what it has."""

from collections.abc import Callable
from math import exp
from time import time

from app.metrics import ADMITTED, WAIT

EASY_SECONDS = 0.5
"""Of the latest waits for all handlers and, five times, for the relay, added up: up to it every new
order is taken."""
AIM_SECONDS = 0.8
STEERING = 0.4
"""Beyond, as many orders are taken as get through, and by this part of them more or fewer for each
second by which the waits are under or over the aim. What is taken now is paid, and waits, seconds
later: with more steering it would swing from too many to too few."""
MEAN_SECONDS = 5.0
"""How many get through is a mean of about so long: agents take them in lumps."""
RECOVERY = 0.7
"""By this part of them more are taken, each second, while waits are easy again, until all are:
twice as many after one second."""
RELAYED = 5
"""How often the relay is on an order's way."""
MEMORY_SECONDS = 2.0
"""A handler without events waits for none."""
TRICKLE = 100.0
"""New orders a second that are taken however long events wait: they are not what keeps it busy, but
Redis that is away, say, or a cold start."""
UNBOUNDED = 1e6
BURST_SECONDS = 0.1
"""What was not taken so long before may still be."""
MILESTONE = "orders.mark_paid"
"""The handler that each paid order passes once, so which tells how many get through."""


class Backlog:
    """The wait of each handler's latest events; times are in seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._since = clock()
        self._waits: dict[str, tuple[float, float]] = {}
        """By handler: when it took events, and how long the first of them had waited."""
        self._through = 0.0
        """Orders that got through lately, the fewer the longer ago."""
        self._counted = clock()
        self._rate = UNBOUNDED
        """New orders a second."""
        self._room = UNBOUNDED * BURST_SECONDS
        """New orders that may be taken now."""
        self._looked = clock()

    def resume(self) -> None:
        """Let waits count from here: before, this worker could not have taken the events."""
        self._since = self._clock()

    def note(self, handler: str, written_at: float, events: int, times: int = 1) -> None:
        """A handler takes so many events, of which the first was written then.

        An order comes by it so many `times`.
        """
        moment = self._clock()
        waited = max(0.0, moment - max(written_at, self._since))
        self._waits[handler] = moment, waited * times
        WAIT.labels(handler).set(waited)
        if handler == MILESTONE:
            self._through = self._lately(moment) + events
            self._counted = moment

    def admits(self) -> bool:
        """Whether one more new order may be taken; if so, it counts as taken."""
        moment = self._clock()
        # The clock may be set back.
        elapsed = max(0.0, moment - self._looked)
        self._looked = moment
        self._rate = self._rate_at(moment, elapsed)
        ADMITTED.set(self._rate)
        self._room = min(self._room + elapsed * self._rate, BURST_SECONDS * self._rate)
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _rate_at(self, moment: float, elapsed: float) -> float:
        wait = sum(waited for at, waited in self._waits.values() if moment - at < MEMORY_SECONDS)
        if wait <= EASY_SECONDS:
            return min(self._rate * exp(RECOVERY * min(elapsed, 60.0)), UNBOUNDED)
        carried = self._lately(moment) / MEAN_SECONDS
        return max(TRICKLE, carried * (1 + STEERING * (AIM_SECONDS - wait)))

    def _lately(self, moment: float) -> float:
        return self._through * exp(min(0.0, self._counted - moment) / MEAN_SECONDS)
