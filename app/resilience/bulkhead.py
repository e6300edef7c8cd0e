"""A bulkhead: some work is done at once, some more waits, and the rest is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import Overloaded


class Bulkhead:
    """Lets `concurrent` bodies run at once, and `waiting` more wait."""

    def __init__(self, concurrent: int, waiting: int) -> None:
        self._running = asyncio.Semaphore(concurrent)
        self._let_in = asyncio.Semaphore(concurrent + waiting)

    @property
    def is_full(self) -> bool:
        """Whether work that comes now is refused."""
        return self._let_in.locked()

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Run the body once there is room. Raises Overloaded if too many wait already."""
        if self.is_full:
            raise Overloaded
        async with self._let_in, self._running:
            yield
