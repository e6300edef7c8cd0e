"""Timeouts, and the delays of retries."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any


def retry_delays() -> Iterator[float]:
    """Yield how many seconds to wait before each retry: 0.1, doubled each time, at most 5."""
    delay = 0.1
    while True:
        yield delay
        delay = min(delay * 2, 5.0)


@asynccontextmanager
async def move_on_after(seconds: float) -> AsyncIterator[None]:
    """Cancel the body after `seconds`, without raising.

    Used instead of `asyncio.wait_for`, which may swallow the task's cancellation in Python 3.11.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


async def leave_after(seconds: float, work: Coroutine[Any, Any, Any]) -> None:
    """Do the work; after `seconds` cancel it and go on, even if it swallows the cancellation.

    Raises what the work raises in time.
    """
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=seconds)
    if task.done():
        task.result()
    task.cancel()
