"""The service's statements by name, with numbered parameters as asyncpg takes them."""

import re
from pathlib import Path
from typing import Any

import asyncpg

FOLDER = Path(__file__).parents[2] / "app" / "sql"
_NAMED = re.compile(r"^-- name: (\w+).*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


class Statements:
    """`await statements.fetch(connection, "lock_orders", ids=[…])`."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, list[str]]] = {}
        for file in FOLDER.glob("*.sql"):
            _, *parts = _NAMED.split(_without_comments(file.read_text()))
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                self._known[name] = _numbered(text.strip())

    async def fetch(self, connection: asyncpg.Connection, name: str, /, **values: Any) -> list[Any]:
        """Execute the statement of that name; return its rows."""
        text, order = self._known[name]
        rows: list[Any] = await connection.fetch(text, *[values[parameter] for parameter in order])
        return rows


def _without_comments(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(
        line for line in lines if line.startswith("-- name:") or not line.lstrip().startswith("--")
    )


def _numbered(text: str) -> tuple[str, list[str]]:
    """Number the parameters in the order of their first appearance."""
    order: list[str] = list(dict.fromkeys(_PARAMETER.findall(text)))
    return _PARAMETER.sub(lambda found: f"${order.index(found[1]) + 1}", text), order
