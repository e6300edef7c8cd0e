"""Admission control: limits new orders by how long events wait here. Accepted orders come first.

W is the sum of the latest waits of all handlers, of requests to pay, and five times the relay's
wait, in seconds. While W ≤ 0.7, the limit doubles each second until there is none. Above that,
it is

    admitted/s = max(100, R × (1 + 0.4 × (0.8 − W)))
    R = new orders/s of about 300 s × (paid/s of about 5 s + 5) / (paid/s of about 300 s + 5)

R estimates the throughput of new orders. It is measured where orders are marked paid, which every
paid order passes; but some orders are never paid, and some were placed at another worker. So the
present rate of paid orders is compared with the usual one, and new orders are admitted in that
proportion.

An order that is admitted now is paid, and waits, seconds later. So the limit follows R, and W
corrects it only a little: a limit that followed W would oscillate.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import exp
from time import time

from app.metrics import WAIT

EASY_SECONDS = 0.7
"""The W up to which the limit rises, until there is none."""
AIM_SECONDS = 0.8
"""The W at which the limit is exactly R."""
STEERING = 0.4
"""The part of R by which the limit rises or falls for each second of W under or over the aim."""
NOW_SECONDS, USUAL_SECONDS = 5.0, 300.0
"""About how far back the two means in R reach. The short one evens out the batches in which agents
take orders; in the long one, orders still in progress carry little weight."""
FEW = 5.0
"""Orders a second, added to both means of paid orders, so that two small means count as equal."""
RECOVERY = 2.0
"""The factor of the limit for each second in which W is within EASY_SECONDS."""
RELAYED = 5
"""The weight of the relay's wait in W: an order passes the relay this many times."""
MEMORY_SECONDS = 2.0
"""How long W counts a handler's noted wait. After that, an idle handler counts 0, and one that is
still working on its events counts the time since it took them, if that is longer."""
MIN_RATE = 100.0
"""The lowest limit, in new orders a second. So few do not overload a worker: events then wait for
another reason, such as Redis being unavailable or a cold start."""
UNBOUNDED = 1e6
"""The rate that stands for no limit, in new orders a second."""
BURST_SECONDS = 0.25
"""Requests come in bursts: the unused part of the limit can be used for this long."""
MILESTONE = "orders.mark_paid"
"""The handler that measures throughput: every paid order passes it."""


class _Rate:
    """A rate per second, as a mean that decays exponentially with the time constant `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lately = self._counted = 0.0

    def count(self, moment: float, more: int = 1) -> None:
        """Count `more` occurrences; fewer than none takes back what was counted lately."""
        self._lately = max(0.0, self._at(moment) + more)
        self._counted = moment

    def at(self, moment: float) -> float:
        """Return the rate per second as of `moment`."""
        return self._at(moment) / self._seconds

    def _at(self, moment: float) -> float:
        # The factor stays at most 1 if the clock is set back.
        return self._lately * exp(min(0.0, self._counted - moment) / self._seconds)


@dataclass(slots=True)
class _Wait:
    """The wait of a handler's latest events."""

    taken_at: float
    waited: float
    """Seconds that the first of them had waited when it was taken."""
    times: int
    """The weight of this wait in W."""
    is_under_way: bool = False

    def seconds(self, moment: float) -> float:
        """Return how long an event that comes now may have to wait, in seconds."""
        since = moment - self.taken_at
        if since < MEMORY_SECONDS:
            return self.waited
        return max(self.waited, since) if self.is_under_way else 0.0


class Admission:
    """The limit on new orders, from the waits of handlers. Times are in seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._since = self._updated = clock()
        self._waits: dict[str, _Wait] = {}
        self._admitted = _Rate(USUAL_SECONDS)
        """New orders that were admitted, without requests that placed none."""
        self._paid_now, self._paid_usually = _Rate(NOW_SECONDS), _Rate(USUAL_SECONDS)
        self._rate = UNBOUNDED
        self._room = UNBOUNDED * BURST_SECONDS
        """New orders that may be admitted at once."""

    def resume(self) -> None:
        """Count waits from now on only: this worker could not have taken the events earlier."""
        self._since = self._clock()

    def note(self, handler: str, written_at: float, times: int = 1) -> None:
        """Note that a handler takes events, the first of which was written at `written_at`.

        `times` is how often an order passes the handler.
        """
        if handler not in self._waits:
            WAIT.labels(handler).set_function(partial(self._seconds, handler))
        moment = self._clock()
        waited = max(0.0, moment - max(written_at, self._since))
        self._waits[handler] = _Wait(moment, waited, times)

    @contextmanager
    def taking(self, handler: str, written_at: float, events: int) -> Iterator[None]:
        """Like `note`; while the body runs, later events count as waiting for it."""
        self.note(handler, written_at)
        wait = self._waits[handler]
        if handler == MILESTONE:
            for rate in (self._paid_now, self._paid_usually):
                rate.count(wait.taken_at, events)
        wait.is_under_way = True
        try:
            yield
        finally:
            wait.is_under_way = False

    def _seconds(self, handler: str) -> float:
        wait = self._waits.get(handler)
        return wait.seconds(self._clock()) if wait else 0.0

    def has_room(self) -> bool:
        """Return whether one more new order may be admitted as of now."""
        self._update()
        return self._room >= 1

    def try_admit(self) -> bool:
        """Return whether one more new order may be admitted, and count it if so."""
        if not self.has_room():
            return False
        self._room -= 1
        self._admitted.count(self._updated)
        return True

    def discount(self) -> None:
        """Do not count an admitted request as a new order; its room stays used, as it took work."""
        self._admitted.count(self._clock(), -1)

    def rate(self) -> float:
        """Return the limit as of now, in new orders a second."""
        return self._rate_at(self._clock())

    def _update(self) -> None:
        moment = self._clock()
        if moment < self._updated:
            # The clock was set back: earlier times cannot be compared with it.
            self._since = self._updated = moment
            self._waits.clear()
        elapsed = moment - self._updated
        self._rate, self._updated = self._rate_at(moment), moment
        self._room = min(self._room + elapsed * self._rate, BURST_SECONDS * self._rate)

    def _rate_at(self, moment: float) -> float:
        wait = sum(wait.seconds(moment) * wait.times for wait in self._waits.values())
        if wait <= EASY_SECONDS:
            elapsed = max(0.0, moment - self._updated)
            return float(min(self._rate * RECOVERY ** min(elapsed, 60), UNBOUNDED))
        return max(MIN_RATE, self._throughput(moment) * (1 + STEERING * (AIM_SECONDS - wait)))

    def _throughput(self, moment: float) -> float:
        """Return R, in new orders a second."""
        now, usual = (rate.at(moment) for rate in (self._paid_now, self._paid_usually))
        return self._admitted.at(moment) * (now + FEW) / (usual + FEW)
