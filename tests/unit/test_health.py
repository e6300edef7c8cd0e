"""Many probes cost no more than two questions to PostgreSQL; none waits for one that hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import orjson
import pytest
from aiohttp.test_utils import make_mocked_request

from app import app
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


class HangingPool(Pool):
    """Stands in for a pool whose server is silent, also when a query is to be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.is_left = asyncio.Event()
        self.wakes = asyncio.Event()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["HangingPool"]:
        try:
            yield self
        finally:
            self.is_left.set()
            await self.wakes.wait()

    async def fetchval(self, *_: object) -> int:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError("it answers")


async def test_no_probe_waits_until_a_hanging_query_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = HangingPool()
    monkeypatch.setattr(health, "health_pool", pool)
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.01)
    try:
        for probe in (health.HealthView, health.ReadyView) * 2:
            answer = await probe(app, app.web).get(make_mocked_request("GET", "/"))
            assert answer.status == 503
            assert orjson.loads(answer.body)["status"] in ("DOWN", "unavailable")
        assert pool.asked == 1 and pool.is_left.is_set(), "all waited for the same query"
    finally:
        pool.wakes.set()
        assert not await health._probes.do(None), "the query has ended"
