"""Handle SIGINT, SIGTERM and SIGHUP at the next pause instead of in the middle of a step."""

import signal
import time
from types import FrameType


class Interrupted(Exception):
    """A signal asked this program to stop."""


class _Signals:
    arrived = False

    def note(self, number: int, frame: FrameType | None) -> None:
        self.arrived = True


_signals = _Signals()


def listen() -> None:
    """Note SIGINT, SIGTERM and SIGHUP from here on; further signals change nothing.

    SIGHUP (a closed terminal) stays ignored if nohup has turned it off.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _signals.note)


def pause(seconds: float) -> None:
    """Sleep between two polls. Raises Interrupted once a signal has been noted."""
    time.sleep(seconds)
    if _signals.arrived:
        raise Interrupted
