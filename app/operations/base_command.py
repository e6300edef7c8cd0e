"""The base of the operator's commands: how they end early."""

import os
import signal
import sys
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

    def say(self, message: str, *args: Any, **options: Any) -> None:
        """Write a line to standard output; end if nobody reads it, as behind `| head`."""
        try:
            super().say(message, *args, **options)
        except BrokenPipeError:
            # Python writes what is left when it exits, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _end(signal.SIGPIPE)
