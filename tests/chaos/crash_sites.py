"""All crash points, each with every subject that reaches it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import app
from app.crashes import Point
from app.handlers import HANDLERS
from app.mail import MAIL
from app.outbox.rows import RELAY
from app.stripe.calls import KINDS
from tests.chaos.messages import handlers

CrashPoint = tuple[Point, str]
"""A point, and a subject that reaches it."""

TRANSACTION = (Point.WRITTEN, Point.COMMITTED)
MESSAGE = (Point.MARKED, Point.ACKNOWLEDGED, Point.DEAD_LETTERED, Point.PARKED)

WORKS = (
    "accounts.register",
    "checkout.request_checkout",
    "expiry.expire_due",
    "intervention.discard",
    "intervention.replay",
    "placing.place",
    "placing.place_together",
    "orders.cancel_on_request",
    "payments.request_payment",
    "payments.request_payments_together",
    "catalogue.create_product",
    "catalogue.update_product",
    "events.record",
    "events.settle_kept",
)
"""The transactions of a worker, besides those of the agents and of provider calls."""
BEGINNINGS = ("database.transaction", "database.single_statement")
COMMANDS = ("accounts.make_admin", "payments.retry_refund")
"""The transactions of commands."""


def crash_points() -> list[CrashPoint]:
    """Return all crash points, grouped by subject."""
    return [(point, subject) for subject, points in _points().items() for point in points]


def _points() -> dict[str, tuple[Point, ...]]:
    handlers()
    agents = {
        name: (*TRANSACTION, Point.HELD_BACK, *MESSAGE)
        if handler.handle
        else (Point.REMEMBERED, *MESSAGE)
        for name, handler in HANDLERS.items()
        if name != RELAY
    }
    calls = {f"provider_calls.{kind}": (Point.TAKEN, Point.SENT, *TRANSACTION) for kind in KINDS}
    return {
        **agents,
        RELAY: (Point.TAKEN, Point.SENT, Point.REFUSED, Point.PARKED),
        MAIL: (Point.TAKEN, Point.SENT),
        **calls,
        **dict.fromkeys(WORKS + COMMANDS, TRANSACTION),
    }


def works_in_code() -> list[str]:
    """Return the name of each transaction in the code; one named by a variable is left out."""
    (folder,) = app.__path__
    calls = [call for file in Path(folder).rglob("*.py") for call in _calls(file)]
    return [name for call in calls if (name := _work(call)) != "work"]


def _calls(file: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(BEGINNINGS):
            yield node


def _work(call: ast.Call) -> str:
    """Return the name, or an empty string if the transaction has none."""
    return ast.unparse(call.args[0]).strip("'") if call.args else ""
