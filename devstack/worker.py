"""The application's worker and its other commands, run through the `faust` CLI."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from devstack.server import Server, answers_http

DEFAULT_PORT = 8080


def faust(*arguments: str) -> list[str]:
    """Return the command line of one of the application's commands."""
    return [str(Path(sys.executable).with_name("faust")), "-A", "app", *arguments]


class Worker(Server):
    """One worker, which listens on `PORT` of its environment.

    `environment` is added to this process's own. Two workers need two data folders and ports.
    """

    name = "worker"

    def __init__(self, environment: Mapping[str, str], datadir: Path, log: Path) -> None:
        super().__init__(datadir, int(environment.get("PORT", DEFAULT_PORT)), log)
        self._environment = environment

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def command(self) -> list[str]:
        datadir = ("--datadir", str(self.folder))
        # LOG_LEVEL sets the log level. `-l info` only turns off Faust's spinner, which hides lines
        # below a warning.
        return faust(*datadir, "-L", "uvloop", "worker", "-l", "info")

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self._environment}

    def start(self) -> None:
        """Launch the worker without waiting; see `wait_ready`. Raises ServerFailed."""
        self.launch()

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait for /readyz. Raises ServerFailed if the worker ends or `seconds` pass."""
        self.wait(seconds)

    def stop(self, seconds: float = 40) -> None:
        """Stop the worker; the default exceeds its own limit, SHUTDOWN_GRACE_SECONDS."""
        super().stop(seconds)

    def answers(self) -> bool:
        return answers_http(self.port, "/readyz")
