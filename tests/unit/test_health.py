"""Many probes at once cost no more than two questions to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from web import health


class Pool:
    """Stands in for a pool with one connection to a server that answers, or does not."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Pool"]:
        yield self

    async def fetchval(self, *_: object) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return 1


@pytest.mark.parametrize(
    ("error", "answer"), [(None, True), (asyncpg.InterfaceError("no answer"), False)]
)
async def test_probes_that_come_together_get_one_answer(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, answer: bool
) -> None:
    pool = Pool(error)
    monkeypatch.setattr(health, "health_pool", pool)
    answers = await asyncio.gather(*(health._probes.do(None) for _ in range(50)))
    assert answers == [answer] * 50
    assert pool.asked <= 2
