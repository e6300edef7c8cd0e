"""Progress output, one line for each step."""

import contextlib
from collections.abc import Iterator

from rich.console import Console


class Screen:
    """Standard output; without a spinner if it is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def line(self, text: str) -> None:
        # The reader may be gone, as after `make run | head`; the servers have to be stopped anyway.
        with contextlib.suppress(OSError):
            self._console.print(text, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show a spinner until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield
