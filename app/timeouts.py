"""Timeouts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def move_on_after(seconds: float) -> AsyncIterator[None]:
    """Cancel the body after `seconds`, without raising.

    Used instead of `asyncio.wait_for`, which may swallow the task's cancellation in Python 3.11.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield
