"""Count the statements that PostgreSQL executes, from its log."""

import re
from collections.abc import Awaitable
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.client import Answer

PREFIX = "<%a> "
"""The log's line prefix: the application_name of the connection."""
REQUESTS = re.compile(
    r"^<orders (?:requests|health)> LOG:  (?:statement|execute [^:]+): *(.*)", re.MULTILINE
)


class Cost(NamedTuple):
    """The statements besides BEGIN and COMMIT, and the transactions that contain them."""

    queries: int
    transactions: int = 0


class StatementLog:
    """The statements of the pools that serve requests, read from the server's log."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def cost_of(self, asked: Awaitable[Answer]) -> Cost:
        """Return the cost of an answer; PostgreSQL logs a statement before it executes it."""
        with self._file.open(encoding="utf-8", errors="replace") as log:
            log.seek(0, 2)
            answer = await asked
            assert answer.status < 400, answer
            return _cost(REQUESTS.findall(log.read()))


def _cost(statements: list[str]) -> Cost:
    begun, ended = statements.count("BEGIN;"), statements.count("COMMIT;")
    assert begun == ended, statements
    return Cost(len(statements) - begun - ended, begun)
