"""Waiting, but not for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def move_on_after(seconds: float) -> AsyncIterator[None]:
    """Lets its body go on for so long, and leaves it then.

    Not `wait_for`, which in Python 3.11 may swallow that the task is cancelled.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield
