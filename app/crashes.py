"""Crash points: every place between two effects, where a test may kill this process by name.

`CRASH_AT=committed:stock.reserve` kills the process with SIGKILL when `stock.reserve` comes to the
point `committed`. It is refused without `CRASH_FOR_TESTS=yes`; neither is read from `.env`, and no
setting knows them. Nothing is armed otherwise, and a point costs a comparison.
"""

import logging
import os
import signal
from collections.abc import Mapping
from enum import StrEnum

log = logging.getLogger(__name__)


class Point(StrEnum):
    """Where a subject stands: which effect is there, and which one is not."""

    WRITTEN = "written"
    """A transaction has written all it will, and is not committed."""
    COMMITTED = "committed"
    """It is committed; no relay, cache, table or client has heard of it."""
    REMEMBERED = "remembered"
    """An agent's own table has the event's content, in memory; it is not marked as handled."""
    MARKED = "marked"
    """An agent's events are marked as handled, in memory; none is acknowledged."""
    ACKNOWLEDGED = "acknowledged"
    """An agent's events are acknowledged; their offsets are not committed."""
    BURIED = "buried"
    """A message is in `dead_letter`; it is not parked."""
    PARKED = "parked"
    """A message, or an event that the broker refuses, is parked; it is not acknowledged."""
    HELD_BACK = "held_back"
    """A message is parked behind another one of its order; that is not committed."""
    TAKEN = "taken"
    """Events, a mail or a call are taken from their table; nothing was done about them."""
    REFUSED = "refused"
    """The broker refuses an event for good; the event is not parked."""
    SENT = "sent"
    """The broker, the mail server or the provider has answered; no row says so."""


_armed: str | None = None
"""`point:subject`."""


def crash_here(point: Point, *subjects: str) -> None:
    """End the process here if a test has armed this point for one of these subjects."""
    if _armed is not None and _armed in [f"{point}:{subject}" for subject in subjects]:
        log.critical("This process kills itself at %s", _armed)
        os.kill(os.getpid(), signal.SIGKILL)


def arm(place: str) -> None:
    """Let the process die at `point:subject`. Raises ValueError where there is no such point."""
    global _armed
    point, _, subject = place.partition(":")
    if not subject:
        raise ValueError(f"{place!r} is not point:subject")
    _armed = f"{Point(point)}:{subject}"
    log.critical("Armed for a test: this process will kill itself at %s", _armed)


def arm_from(environment: Mapping[str, str]) -> None:
    """Arm what CRASH_AT names; SystemExit where that is no place, or this is not a test's process.

    Both variables are read from the process's environment alone, so that no file arms anything.
    """
    place = environment.get("CRASH_AT")
    if not place:
        return
    if environment.get("CRASH_FOR_TESTS") != "yes":
        raise SystemExit("CRASH_AT: kills the worker; only in tests, with CRASH_FOR_TESTS=yes")
    try:
        arm(place)
    except ValueError as error:
        raise SystemExit(f"CRASH_AT: {error}") from None
