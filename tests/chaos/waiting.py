"""Wait for a condition with a bound, never for a fixed time."""

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from time import monotonic
from typing import Any

POLL_SECONDS = 0.05


async def until(holds: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Return once `holds`, a function or coroutine function, is true; fail the test otherwise."""
    assert await comes_true(holds, seconds), f"not within {seconds:g} s: {what}"


async def comes_true(holds: Callable[[], Any], seconds: float) -> bool:
    """Return whether `holds` becomes true within `seconds`."""
    deadline = monotonic() + seconds
    while not await _value(holds()):
        if monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _value(answer: Any) -> Any:
    return await answer if isawaitable(answer) else answer
