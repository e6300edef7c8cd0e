"""What the operator's commands share: how they end early."""

import signal
from typing import Any, ClassVar, NoReturn

from faust.cli import AppCommand
from mode.worker import Worker


class _Runner(Worker):
    def install_signal_handlers(self) -> None:
        """End at a signal. Faust would exit with 0, which a script takes for done."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)


def _end(number: int, *_: Any) -> NoReturn:
    raise SystemExit(128 + number)


class Command(AppCommand):
    """A command that exits as a shell expects it (128 + n) when signal n ends it."""

    abstract: ClassVar[bool] = True
    _Worker = _Runner
