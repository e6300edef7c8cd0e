"""Run Schemathesis against a worker, in a separate process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from typing import Any

from tests.fuzz.hooks import TALLY

EXAMPLES = 40
"""Random cases per operation; about as many more are derived from the schema."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Caller:
    """Who sends the requests. `peer` is the token of a user who must not see the caller's data."""

    name: str
    token: str | None = None
    peer: str | None = None

    def write(self, folder: Path) -> None:
        """Write Schemathesis' configuration for this caller."""
        config = (HERE / "schemathesis.toml").read_text()
        if self.token:
            users = [_user(self.name, self.token)] + (
                [_user("peer", self.peer)] if self.peer else []
            )
            (folder / "users.json").write_text(json.dumps({"auth": users}))
            config += f'\n[auth.wfc]\npath = "{folder / "users.json"}"\nuser = "{self.name}"\n'
            config += f'peers = ["{self.name}", "peer"]\n' if self.peer else ""
        (folder / "schemathesis.toml").write_text(config)


def _user(name: str, token: str) -> dict[str, Any]:
    return {
        "name": name,
        "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}],
    }


class Run:
    """A running Schemathesis process for one caller; `finish` waits for it."""

    def __init__(
        self, url: str, caller: Caller, known: Path, folder: Path, options: Iterable[str]
    ) -> None:
        """Start the process; `known` contains the dictionaries of existing ids."""
        folder.mkdir(parents=True)
        for dictionary in known.glob("*.dict"):
            copy(dictionary, folder)
        caller.write(folder)
        self._folder = folder
        self._output = folder / "output.txt"
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [*_command(url, folder), *options],
                env={
                    **os.environ,
                    "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
                    TALLY: str(folder / "tally.json"),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self) -> "Done":
        """Wait for the end."""
        code = self._process.wait()
        output = self._output.read_text()
        report, tally = self._folder / "report.json", self._folder / "tally.json"
        if not (report.exists() and tally.exists()):
            return Done(code, 0, {}, output)
        cases = json.loads(report.read_text())["test_cases"]
        answers = {(label, status): times for label, status, times in json.loads(tally.read_text())}
        return Done(code, cases["generated"], answers, output)

    def kill(self) -> None:
        """End the process if it still runs."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Done:
    """The result of a run; `code` is 0 if nothing failed.

    `answers` counts by operation and status.
    """

    code: int
    cases: int
    answers: dict[tuple[str, int], int]
    output: str


def _command(url: str, folder: Path) -> list[str]:
    return [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={folder / 'schemathesis.toml'}",
        "run",
        f"{url}/openapi.json",
        "--no-color",
        "--checks=all",
        f"--max-examples={EXAMPLES}",
        "--report=json",
        f"--report-json-path={folder / 'report.json'}",
    ]
