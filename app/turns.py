"""Work of which only so much is done at once: more waits for its turn, and too much is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import Overloaded


class Turns:
    """Lets `concurrent` bodies run at once, and `waiting` more wait."""

    def __init__(self, concurrent: int, waiting: int) -> None:
        self._under_way = asyncio.Semaphore(concurrent)
        self._let_in = asyncio.Semaphore(concurrent + waiting)

    @property
    def is_full(self) -> bool:
        """Whether who comes now is refused."""
        return self._let_in.locked()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn. Raises Overloaded if too many wait already."""
        if self.is_full:
            raise Overloaded
        async with self._let_in, self._under_way:
            yield
