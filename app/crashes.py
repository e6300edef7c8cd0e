"""Crash points lie between two effects; a test can have this process killed at one of them.

`CRASH_AT=committed:stock.reserve` kills the process with SIGKILL when `stock.reserve` reaches
the point `committed`. This needs `CRASH_FOR_TESTS=yes`, too. Both variables are read only from the
environment, not from `.env`, and are not settings. A point that is not armed costs a comparison.
"""

import logging
import os
import signal
from collections.abc import Mapping
from enum import StrEnum

log = logging.getLogger(__name__)


class Point(StrEnum):
    """How far a subject has come: which effect has happened, and which has not."""

    WRITTEN = "written"
    """A transaction has written everything; it is not committed."""
    COMMITTED = "committed"
    """A transaction is committed; no relay, cache, table or client knows of it."""
    REMEMBERED = "remembered"
    """An agent's own table holds an event's content, in memory; it is not marked as handled."""
    MARKED = "marked"
    """An agent's events are marked as handled, in memory; none is acknowledged."""
    ACKNOWLEDGED = "acknowledged"
    """An agent's events are acknowledged; their offsets are not committed."""
    DEAD_LETTERED = "dead_lettered"
    """A message is in `dead_letter`; it is not parked."""
    PARKED = "parked"
    """A message, or an event that the broker refuses, is parked; it is not acknowledged."""
    HELD_BACK = "held_back"
    """A message is parked behind another one of its order; this is not committed."""
    TAKEN = "taken"
    """Events, a mail or a call are taken from their table; nothing has been done with them."""
    REFUSED = "refused"
    """The broker refuses an event for good; the event is not parked."""
    SENT = "sent"
    """The broker, the mail server or the provider has answered; this is not written to a row."""


_armed: str | None = None
"""The armed crash point, as `point:subject`."""


def crash_here(point: Point, *subjects: str) -> None:
    """Kill the process if a test has armed this point for one of these subjects."""
    if _armed is not None and _armed in [f"{point}:{subject}" for subject in subjects]:
        log.critical("This process kills itself at %s", _armed)
        os.kill(os.getpid(), signal.SIGKILL)


def arm(crash_point: str) -> None:
    """Have the process killed at `point:subject`. Raises ValueError if there is no such point."""
    global _armed
    point, _, subject = crash_point.partition(":")
    if not subject:
        raise ValueError(f"{crash_point!r} is not point:subject")
    _armed = f"{Point(point)}:{subject}"
    log.critical("Armed for a test: this process will kill itself at %s", _armed)


def arm_from(environment: Mapping[str, str]) -> None:
    """Arm the crash point that CRASH_AT names.

    Raises SystemExit if there is no such point, or if CRASH_FOR_TESTS is not `yes`.
    """
    crash_point = environment.get("CRASH_AT")
    if not crash_point:
        return
    if environment.get("CRASH_FOR_TESTS") != "yes":
        raise SystemExit("CRASH_AT: kills the worker; only in tests, with CRASH_FOR_TESTS=yes")
    try:
        arm(crash_point)
    except ValueError as error:
        raise SystemExit(f"CRASH_AT: {error}") from None
