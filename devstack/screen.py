"""Progress, one line for each step."""

import contextlib
from collections.abc import Iterator

from rich.console import Console


class Screen:
    """Standard output; where it is no terminal, the same lines without a spinner."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def line(self, text: str) -> None:
        # Whoever read the output may be gone, as after `make run | head`; the servers stop anyway.
        with contextlib.suppress(OSError):
            self._console.print(text, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Shows a spinner until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield
