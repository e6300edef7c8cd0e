"""The base class of all servers: start, wait for an answer, stop, kill."""

import asyncio
import http.client
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from devstack.interrupt import pause
from devstack.ports import free_port, is_free
from devstack.process import Process

Answer = TypeVar("Answer")


class ServerFailed(Exception):
    """A server did not start; its text is one line that says which, why, and what to do."""

    def __init__(self, name: str, why: str, remedy: str) -> None:
        self.name, self.why, self.remedy = name, why, remedy
        super().__init__(" ".join(f"{name} did not start: {why.rstrip('.')}. {remedy}".split()))


def ask(question: Coroutine[Any, Any, Answer], seconds: float) -> Answer:
    """Run the coroutine to its end. Raises TimeoutError after `seconds`.

    It runs in a thread of its own, since the caller may be inside a running event loop.
    """

    async def bounded() -> Answer:
        return await asyncio.wait_for(question, seconds)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, bounded()).result()


def answers_http(port: int, path: str, headers: Mapping[str, str] | None = None) -> bool:
    """Return whether a server on this host answers a GET of the path with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Server(ABC):
    """A server on 127.0.0.1 whose data are in `folder`.

    After `stop` or `kill`, `start` continues on the same port with the same folder.
    """

    name: ClassVar[str]
    remedy: ClassVar[str] = "Delete .venv and run make again."
    """What to do if the program itself is missing."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    durable: ClassVar[bool] = True
    version: str = ""

    def __init__(self, folder: Path, port: int | None = None, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.log = log or self.folder / f"{type(self).__name__.lower()}.log"
        self._process: Process | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether the server answers, asking it once, for at most a few seconds."""

    def prepare(self) -> None:
        """Create the folder and what the first start needs. Raises ServerFailed, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def environment(self) -> Mapping[str, str] | None:
        """Return the program's whole environment; None means this process's own."""
        return None

    def user(self) -> str | None:
        """Return the user to run as; None means this process's own."""
        return None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerFailed."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the program without waiting for an answer. Raises ServerFailed."""
        if not self.alive:
            self.kill()  # descendants that an ended server may have left behind
        if not is_free(self.port):
            raise ServerFailed(self.name, f"port {self.port} is taken", "Free it.")
        try:
            self.prepare()
            self._process = self._program(self.command())
            self._process.start()
        except OSError as error:
            raise ServerFailed(self.name, str(error), self.remedy) from error

    def wait(self, seconds: float = 60) -> None:
        """Wait until the server answers. Raises ServerFailed if it ends or `seconds` pass."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if not self.alive:
                why = self.why_ended()
            elif time.monotonic() > deadline:
                why = f"no answer within {seconds:g} s; {self.last_words()}"
            else:
                pause(0.05)
                continue
            self.kill()
            raise ServerFailed(self.name, why, f"See {self.log}")

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def last_words(self) -> str:
        """Return the last log line that reports an error, else the last line."""
        return self._process.last_words() if self._process else ""

    def why_ended(self) -> str:
        """Return the signal that killed it, or its exit code and last words, in one line."""
        code = (self._process and self._process.exit_code) or 0
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}: {self.last_words() or 'nothing in its log'}"

    def stop(self, seconds: float = 30) -> None:
        """Stop the server gracefully; kill it after `seconds`."""
        if self._process:
            self._process.stop(seconds)

    def kill(self) -> None:
        """Kill the server, as a power cut would; its data stay."""
        if self._process:
            self._process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _program(self, command: list[str]) -> Process:
        return Process(
            command,
            self.log,
            environment=self.environment(),
            user=self.user(),
            stop_signal=self.stop_signal,
        )

    def _run(self, command: list[str]) -> None:
        """Run a program to its end. Raises ServerFailed if it fails, OSError, Interrupted."""
        program = self._program(command)
        if not program.run(seconds=60):
            raise ServerFailed(self.name, program.last_words(), f"See {self.log}")
