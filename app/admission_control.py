"""How long events wait for this worker, and so how many new orders it takes: first what it has.

W is the latest waits of all handlers, and five times the relay's, in seconds, added up. While
W ≤ 0.7, the limit doubles each second until there is none. Above, it is

    admitted/s = max(100, R × (1 + 0.4 × (0.8 − W)))
    R = new orders/s of about 300 s × (paid/s of about 5 s + 5) / (paid/s of about 300 s + 5)

R is how many new orders get through. What gets through is counted where orders are paid: all that
are paid come by there, but some are never paid, and others were placed at another worker. So what
is paid now is compared with what is paid usually, and new orders are taken in that proportion.

What is taken now is paid, and waits, seconds later. So the limit follows what gets through, and W
corrects it only a little: a limit that followed W would swing from too many to too few.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import exp
from time import time

from app.metrics import ADMITTED, WAIT

EASY_SECONDS = 0.7
"""The W up to which the limit rises until every new order is taken."""
AIM_SECONDS = 0.8
"""The W at which R is taken exactly."""
STEERING = 0.4
"""By this part of R more or fewer are taken for each second that W is under or over the aim."""
NOW_SECONDS, LATE_SECONDS = 5.0, 300.0
"""About how long the means of R go back. The short one outlasts the lumps in which agents take
orders; in the long one, the orders that are on their way are few."""
FEW = 5.0
"""Added to both means of paid orders, a second: two small ones count as about the same."""
RECOVERY = 2.0
"""What the limit is multiplied by each second while W is easy."""
RELAYED = 5
"""How often W counts the relay's wait: so often an order comes by it."""
MEMORY_SECONDS = 2.0
"""How long W remembers a handler's wait. After that, one without events waits for none, and one
that is at some for longer keeps others waiting."""
TRICKLE = 100.0
"""The least limit, in new orders a second: so few are not what keeps a worker busy, but Redis that
is away, say, or a cold start."""
UNBOUNDED = 1e6
"""A limit that is none, in new orders a second."""
BURST_SECONDS = 0.25
"""Requests come in lumps: what was not taken so long before may still be."""
MILESTONE = "orders.mark_paid"
"""The handler that counts what gets through: it is on the way of every order that is paid."""


class _Rate:
    """How many there are a second, what is older than `seconds` counting for less and less."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lately = self._counted = 0.0

    def count(self, moment: float, more: int = 1) -> None:
        """So many more."""
        self._lately = self._at(moment) + more
        self._counted = moment

    def at(self, moment: float) -> float:
        """A second, as seen from `moment`."""
        return self._at(moment) / self._seconds

    def _at(self, moment: float) -> float:
        # Not beyond 1, for the clock may be set back.
        return self._lately * exp(min(0.0, self._counted - moment) / self._seconds)


@dataclass(slots=True)
class _Wait:
    """Of a handler's latest events."""

    taken_at: float
    waited: float
    """Seconds that the first of them had waited by then."""
    times: int
    is_under_way: bool = False

    def seconds(self, moment: float) -> float:
        """How long who comes now may have to wait."""
        since = moment - self.taken_at
        if since < MEMORY_SECONDS:
            return self.waited
        return max(self.waited, since) if self.is_under_way else 0.0


class Admission:
    """The wait of each handler's latest events; times are in seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._since = self._looked = clock()
        self._waits: dict[str, _Wait] = {}
        self._taken = _Rate(LATE_SECONDS)
        """New orders."""
        self._through_now, self._through_late = _Rate(NOW_SECONDS), _Rate(LATE_SECONDS)
        self._rate = UNBOUNDED
        self._room = UNBOUNDED * BURST_SECONDS
        """New orders that may be taken at once."""
        ADMITTED.set_function(self.rate)

    def resume(self) -> None:
        """Let waits count from here: before, this worker could not have taken the events."""
        self._since = self._clock()

    def note(self, handler: str, written_at: float, times: int = 1) -> None:
        """A handler takes events, of which the first was written then.

        An order comes by it so many `times`.
        """
        if handler not in self._waits:
            WAIT.labels(handler).set_function(partial(self._seconds, handler))
        moment = self._clock()
        waited = max(0.0, moment - max(written_at, self._since))
        self._waits[handler] = _Wait(moment, waited, times)

    @contextmanager
    def taking(self, handler: str, written_at: float, events: int) -> Iterator[None]:
        """As `note`; while the body lasts, whatever comes after these events waits for it."""
        self.note(handler, written_at)
        wait = self._waits[handler]
        if handler == MILESTONE:
            for rate in (self._through_now, self._through_late):
                rate.count(wait.taken_at, events)
        wait.is_under_way = True
        try:
            yield
        finally:
            wait.is_under_way = False

    def _seconds(self, handler: str) -> float:
        wait = self._waits.get(handler)
        return wait.seconds(self._clock()) if wait else 0.0

    def try_admit(self) -> bool:
        """Whether one more new order may be taken; if so, it counts as taken."""
        self.rate()
        if self._room < 1:
            return False
        self._room -= 1
        self._taken.count(self._looked)
        return True

    def rate(self) -> float:
        """New orders a second that may be taken now."""
        moment = self._clock()
        if moment < self._looked:
            # The clock was set back: what was noted by it before means nothing.
            self._since = self._looked = moment
            self._waits.clear()
        elapsed, self._looked = moment - self._looked, moment
        wait = sum(wait.seconds(moment) * wait.times for wait in self._waits.values())
        self._rate = self._rate_after(elapsed, wait)
        self._room = min(self._room + elapsed * self._rate, BURST_SECONDS * self._rate)
        return self._rate

    def _rate_after(self, elapsed: float, wait: float) -> float:
        if wait <= EASY_SECONDS:
            return float(min(self._rate * RECOVERY ** min(elapsed, 60), UNBOUNDED))
        return max(TRICKLE, self._carried() * (1 + STEERING * (AIM_SECONDS - wait)))

    def _carried(self) -> float:
        """R, in new orders a second."""
        now, late = (rate.at(self._looked) for rate in (self._through_now, self._through_late))
        return self._taken.at(self._looked) * (now + FEW) / (late + FEW)
