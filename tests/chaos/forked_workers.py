"""Start workers in a third of the time: fork each from a process that has imported everything.

A test that kills a hundred workers would otherwise spend its time on imports. The forked process is
the worker that the CLI runs; only the way to arm it at runtime is added here.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from devstack.process import Process
from devstack.worker import Worker

PARENT_DIED = 1  # PR_SET_PDEATHSIG


class Nursery:
    """The process that forks workers; at most one of them is alive at a time."""

    def __init__(self, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        """Start the process; its workers keep their data in `folder`."""
        # The CLI's --datadir is read when the application is imported.
        more = {"F_DATADIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
        with log.open("ab") as errors:
            self._program = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment, **more},
            )
        self._told = b""

    def close(self) -> None:
        """Kill the process, and with it a living worker."""
        self._program.kill()
        self._program.wait()

    def fork(self, log: Path, crash_point: str) -> int:
        """Start a worker, armed if a crash point is given; return its process id."""
        self.tell(json.dumps([str(log), crash_point]))
        pid = self.listen(30)
        assert pid is not None, "the nursery does not answer"
        return pid

    def tell(self, line: str) -> None:
        """Send a line to the process, or to the worker if one is alive."""
        assert self._program.stdin
        os.write(self._program.stdin.fileno(), f"{line}\n".encode())

    def listen(self, seconds: float) -> int | None:
        """Return the next number that the process writes, or None if none comes in `seconds`."""
        assert self._program.stdout
        descriptor = self._program.stdout.fileno()
        while b"\n" not in self._told:
            if not select.select([descriptor], [], [], seconds)[0]:
                return None
            read = os.read(descriptor, 4096)
            assert read, "the nursery has died"
            self._told += read
        line, self._told = self._told.split(b"\n", 1)
        return int(line)


class _Forked(Process):
    """The process of a forked worker."""

    def __init__(self, nursery: Nursery, log: Path, crash_point: str) -> None:
        super().__init__([], log)
        self._nursery = nursery
        self._crash_point = crash_point
        self._pid: int | None = None
        self._code: int | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._pid = self._nursery.fork(self.log, self._crash_point)

    @property
    def pid(self) -> int | None:
        return self._pid

    @property
    def alive(self) -> bool:
        return self._pid is not None and self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """Like `Popen.poll`: negative for a signal."""
        if self._pid is not None and self._code is None:
            self._code = self._nursery.listen(0)
        return self._code

    def kill(self) -> None:
        if self.alive and self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._code = self._nursery.listen(10)


class Mortal(Worker):
    """A worker that a test may arm while it runs."""

    def __init__(
        self, nursery: Nursery, environment: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        super().__init__(environment, folder, log)
        self._nursery = nursery
        self.crash_point = ""
        """Where the next process is to die, as `point:subject`; empty for nowhere."""

    def arm(self, crash_point: str) -> None:
        """Let the worker die at `point:subject`; it is armed once its log says so."""
        self._nursery.tell(crash_point)

    def _program(self, command: list[str]) -> Process:
        return _Forked(self._nursery, self.log, self.crash_point)


def _lines_from(descriptor: int) -> str:
    """Return the next line, empty at the end; unbuffered, because parent and child take turns."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return line.decode().strip()


def _say(number: int) -> None:
    os.write(1, f"{number}\n".encode())


def _live(log: str, crash_point: str) -> None:
    """Run a worker in this process."""
    from faust.cli.faust import cli

    from app.crashes import arm

    ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if crash_point:
        arm(crash_point)
    threading.Thread(target=_obey, daemon=True).start()
    cli(["-A", "app", "-L", "uvloop", "worker", "-l", "info"])


def _obey() -> None:
    from app.crashes import arm

    while crash_point := _lines_from(0):
        arm(crash_point)
    os._exit(1)


def _main() -> None:
    from importlib import import_module

    from app import AUTODISCOVER

    for module in AUTODISCOVER:
        import_module(module)
    while told := _lines_from(0):
        pid = os.fork()
        if not pid:
            try:
                _live(*json.loads(told))
            finally:
                os._exit(1)
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _main()
