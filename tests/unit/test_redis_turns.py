"""Turns at Redis: who waits, who is not asked any more, and what says that Redis is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ConnectionError as NoConnection

from app.redis_turns import CONCURRENT, RedisTurns, Unanswered


async def answers() -> str:
    return "an answer"


async def fails() -> str:
    raise NoConnection


@asynccontextmanager
async def all_taken(turns: RedisTurns, end: Callable[[], Awaitable[str]]) -> AsyncIterator[None]:
    """Take all turns while the body runs; each then ends as `end` does."""
    begun, may_end = asyncio.Semaphore(0), asyncio.Event()

    async def question() -> str:
        begun.release()
        await may_end.wait()
        return await end()

    asked = [asyncio.create_task(turns.ask(question)) for _ in range(CONCURRENT)]
    for _ in asked:
        await begun.acquire()
    yield
    may_end.set()
    await asyncio.wait(asked)
    for task in asked:
        assert isinstance(task.exception(), Unanswered | None)


async def test_who_waits_is_answered() -> None:
    turns = RedisTurns()
    async with all_taken(turns, answers):
        waiting = asyncio.create_task(turns.ask(answers))
    assert await waiting == "an answer"


async def test_that_all_turns_are_taken_is_no_sign_that_redis_is_away() -> None:
    turns = RedisTurns(patience=0)
    async with all_taken(turns, answers):
        with pytest.raises(Unanswered):
            await turns.ask(answers)
    assert await turns.ask(answers) == "an answer"


async def test_who_waits_behind_one_that_failed_is_not_asked() -> None:
    turns, asked = RedisTurns(), []

    async def notes() -> None:
        asked.append(1)

    async with all_taken(turns, fails):
        waiting = asyncio.create_task(turns.ask(notes))
        await asyncio.sleep(0)
    with pytest.raises(Unanswered):
        await waiting
    assert not asked


async def test_only_the_last_try_counts() -> None:
    turns, outcomes = RedisTurns(), [fails, answers]

    async def question() -> str:
        return await outcomes.pop(0)()

    assert await turns.ask(question, tries=2) == "an answer"
    with pytest.raises(Unanswered):
        await turns.ask(fails, tries=2)
    with pytest.raises(Unanswered):
        await turns.ask(answers)
