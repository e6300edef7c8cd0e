"""Restart a server whenever it ends."""

import time
from collections.abc import Callable

from devstack.server import Server, ServerFailed

_FIRST, _LONGEST, _HEALTHY = 0.5, 5.0, 30.0
"""Seconds: the first and the longest wait before a restart, and the uptime that resets the wait."""


class Kept:
    """A launched server that is restarted whenever it ends, with exponential backoff."""

    def __init__(self, server: Server, say: Callable[[str], None]) -> None:
        self.server = server
        self._say = say
        self._started = time.monotonic()
        self._wait = 0.0
        self._due: float | None = None

    def tend(self) -> bool:
        """Check the server and restart it if that is due; return whether it was restarted."""
        now = time.monotonic()
        if self._due is not None:
            return now >= self._due and self._start_again()
        if not self.server.alive:
            self._plan(now, self.server.why_ended())
        return False

    def _plan(self, now: float, why: str) -> None:
        lived_long = now - self._started > _HEALTHY
        self._wait = _FIRST if lived_long or not self._wait else min(self._wait * 2, _LONGEST)
        self._due = now + self._wait
        self._say(f"{self.server.name} ended ({why}); starting it again in {self._wait:g} s")

    def _start_again(self) -> bool:
        self._due = None
        try:
            self.server.start()
        except ServerFailed as failure:
            self._plan(time.monotonic(), failure.why)
            return False
        self._started = time.monotonic()
        return True
