"""The breaker at Redis: who waits, when Redis is not asked, and what says that it is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as NoConnection

from app.resilience.redis_breaker import CONCURRENT, RedisBreaker, RedisUnavailable


async def answers() -> str:
    return "an answer"


async def fails() -> str:
    raise NoConnection


@asynccontextmanager
async def all_asked(
    breaker: RedisBreaker, end: Callable[[], Awaitable[str]]
) -> AsyncIterator[None]:
    """Ask as much as may be asked at once while the body runs; each ends as `end` does."""
    begun, may_end = asyncio.Semaphore(0), asyncio.Event()

    async def question() -> str:
        begun.release()
        await may_end.wait()
        return await end()

    asked = [asyncio.create_task(breaker.ask(question)) for _ in range(CONCURRENT)]
    for _ in asked:
        await begun.acquire()
    yield
    may_end.set()
    await asyncio.wait(asked)
    for task in asked:
        assert isinstance(task.exception(), RedisUnavailable | None)


async def test_who_waits_is_answered() -> None:
    breaker = RedisBreaker()
    async with all_asked(breaker, answers):
        waiting = asyncio.create_task(breaker.ask(answers))
    assert await waiting == "an answer"


async def test_a_wait_for_others_in_vain_is_no_sign_that_redis_is_away() -> None:
    breaker = RedisBreaker(patience=0)
    async with all_asked(breaker, answers):
        with pytest.raises(RedisUnavailable):
            await breaker.ask(answers)
    assert await breaker.ask(answers) == "an answer"


async def test_who_waits_behind_one_that_failed_is_not_asked() -> None:
    breaker, asked = RedisBreaker(), []

    async def notes() -> None:
        asked.append(1)

    async with all_asked(breaker, fails):
        waiting = asyncio.create_task(breaker.ask(notes))
        await asyncio.sleep(0)
    with pytest.raises(RedisUnavailable):
        await waiting
    assert not asked


async def test_only_the_last_try_counts() -> None:
    breaker, outcomes = RedisBreaker(), [fails, answers]

    async def question() -> str:
        return await outcomes.pop(0)()

    assert await breaker.ask(question, tries=2) == "an answer"
    with pytest.raises(RedisUnavailable):
        await breaker.ask(fails, tries=2)
    with pytest.raises(RedisUnavailable):
        await breaker.ask(answers)


async def test_why_redis_is_away_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def refuses() -> None:
        raise AuthenticationError("invalid username-password pair")

    with pytest.raises(RedisUnavailable):
        await RedisBreaker().ask(refuses)
    (told,) = caplog.records
    assert told.levelname == "WARNING" and "invalid username-password pair" in told.getMessage()
    assert told.__dict__["once"], "it would be told for each request anew"
