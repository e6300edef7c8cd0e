"""So much at once, so many who wait, and no more."""

import asyncio

import pytest

from app.errors import Overloaded
from app.resilience.bulkhead import Bulkhead


async def test_who_comes_to_a_full_queue_is_refused() -> None:
    bulkhead, go_on, order = Bulkhead(concurrent=1, waiting=1), asyncio.Event(), []

    async def work(name: str) -> None:
        async with bulkhead.enter():
            order.append(name)
            await go_on.wait()

    first, second = asyncio.create_task(work("first")), asyncio.create_task(work("second"))
    await asyncio.sleep(0)
    assert order == ["first"] and bulkhead.is_full
    with pytest.raises(Overloaded):
        await work("third")
    go_on.set()
    await asyncio.gather(first, second)
    assert order == ["first", "second"] and not bulkhead.is_full


async def test_who_leaves_makes_room() -> None:
    bulkhead = Bulkhead(concurrent=1, waiting=0)
    with pytest.raises(ValueError):
        async with bulkhead.enter():
            raise ValueError
    async with bulkhead.enter():
        pass
