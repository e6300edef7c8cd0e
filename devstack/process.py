"""Start, watch and end one program."""

import contextlib
import ctypes
import os
import pwd
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devstack.interrupt import pause

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BAD = re.compile(r"\b(ERROR|FATAL|CRITICAL|PANIC)\b|\w(Error|Exception)\b")
_TAIL = 16_384


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _before_exec() -> Callable[[], None] | None:
    # The kernel sends the death signal when the forking thread ends, not its process, so a program
    # started from a short-lived thread would end with that thread.
    main = threading.current_thread() is threading.main_thread()
    return _die_with_parent if _libc is not None and main else None


class Process:
    """A program in a session of its own, with stdout and stderr appended to `log`.

    On Linux it ends with the process that started it, even if that is killed with SIGKILL.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.command = list(command)
        self.log = log
        self._environment = environment
        self._user = user
        self._stop_signal = stop_signal
        self._popen: subprocess.Popen[bytes] | None = None
        self._leash = -1
        self._log_start = 0

    def start(self) -> None:
        """Start the program. Raises OSError if it cannot be executed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # All descendants inherit the pipe's write end, so it closes only when every one is gone,
        # including those that left the process group, as PostgreSQL's backends do.
        self._leash, held = os.pipe()
        try:
            with self.log.open("ab") as output:
                self._log_start = output.tell()
                self._popen = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=None if self._environment is None else dict(self._environment),
                    user=self._user,
                    group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                    extra_groups=[] if self._user else None,
                    pass_fds=(held,),
                    start_new_session=True,
                    preexec_fn=_before_exec(),
                )
        except OSError:
            os.close(self._leash)
            self._leash = -1
            raise
        finally:
            os.close(held)

    def run(self, seconds: float) -> bool:
        """Run the program to its end, or kill it after `seconds`; return whether it succeeded.

        Raises OSError if it cannot be executed, Interrupted.
        """
        deadline = time.monotonic() + seconds
        self.start()
        try:
            while self.alive and time.monotonic() < deadline:
                pause(0.05)
        finally:
            self.kill()
        return self.exit_code == 0

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    @property
    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll() if self._popen else None

    def stop(self, seconds: float = 30) -> None:
        """Ask the program to end, and kill it if that takes longer than `seconds`."""
        self._signal(self._stop_signal)
        self._gone(seconds)
        self.kill()

    def kill(self) -> None:
        """End the program and its group with SIGKILL; wait up to 10 seconds for all descendants."""
        self._signal(signal.SIGKILL)
        if self._popen:
            self._popen.wait()
        self._gone(10)
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1

    def last_words(self) -> str:
        """Return this run's last log line that reports an error, else its last line, else ''."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _TAIL))
            text = _COLOUR.sub("", log.read().decode(errors="replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip()][-50:]
        errors = [line for line in lines if _BAD.search(line)]
        return (errors or lines or [""])[-1]

    def _signal(self, number: signal.Signals) -> None:
        if self._popen is None or (not self.alive and self._gone(0)):
            return  # the id of an empty group may have been given to another one
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    def _gone(self, seconds: float) -> bool:
        if self._leash < 0:
            return True
        poll = select.poll()
        poll.register(self._leash, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(seconds * 1000))
