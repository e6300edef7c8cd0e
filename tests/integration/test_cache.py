"""The cache never returns stale data, and reads work without it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.cache import PRODUCTS, Cache, Load
from app.db.errors import AWAY
from app.db.pools import Database
from app.db.transaction import Transaction
from app.metrics import CACHE
from devstack.redis import Redis
from tests.chaos.waiting import until
from tests.integration.hanging_redis import hanging

AT_ONCE = 200
"""More than the connections of a client of Redis, which are 100 by default."""
PATIENCE = 30.0


@pytest.fixture
async def workers(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Cache, Cache]]:
    """The caches of two workers, which are patient with a busy machine."""
    for module in ("app.resilience.redis_breaker", "app.cache"):
        monkeypatch.setattr(f"{module}.TIMEOUT_SECONDS", PATIENCE)
    one, other = Cache(redis.url), Cache(redis.url)
    yield one, other
    await one.close()
    await other.close()


@pytest.fixture
async def cache(redis: Redis) -> AsyncIterator[Cache]:
    cache = Cache(redis.url)
    yield cache
    await cache.close()


async def evict(cache: Cache, product_id: UUID, version: int) -> None:
    """Evict as after the commit of a transaction that made `version` of a product."""
    transaction = Transaction(cast(Any, None), product_versions={product_id: version})
    await cache.after_commit(transaction)


def loads(version: int) -> Load:
    async def load(id: UUID) -> tuple[int, dict[str, Any]]:
        return version, {"version": version}

    return load


async def loads_nothing(id: UUID) -> tuple[int, dict[str, Any]]:
    raise AssertionError("the cache was expected to know")


async def test_a_second_read_comes_from_the_cache(cache: Cache) -> None:
    id = uuid4()
    assert await cache.get(PRODUCTS, id, loads(1)) == {"version": 1}
    assert await cache.get(PRODUCTS, id, loads_nothing) == {"version": 1}


async def test_a_burst_of_reads_waits_for_redis(workers: tuple[Cache, Cache]) -> None:
    cache, ids, before = workers[0], [uuid4() for _ in range(AT_ONCE)], _times_away()
    for load in (loads(1), loads_nothing):
        read = await asyncio.gather(*(cache.get(PRODUCTS, id, load) for id in ids))
        assert read == [{"version": 1}] * AT_ONCE
    assert _times_away() == before


async def test_what_may_have_been_committed_is_evicted(
    cache: Cache, environment: dict[str, str]
) -> None:
    """The connection breaks at COMMIT, so its outcome is unknown."""
    id = uuid4()
    await cache.get(PRODUCTS, id, loads(1))
    database = Database({"dsn": environment["DB_URL"]}, 1)
    database.after_commit.append(cache.after_commit)
    await database.open()
    operator = await asyncpg.connect(environment["DB_URL"])
    with pytest.raises(AWAY):
        async with database.transaction("a change") as transaction:
            transaction.product_versions[id] = 2
            pid = transaction.connection.get_server_pid()
            await operator.execute("select pg_terminate_backend($1, 10000)", pid)
    await operator.close()
    await database.close()
    assert await cache.get(PRODUCTS, id, loads(2)) == {"version": 2}


async def test_a_change_is_seen_at_once_and_cached_again_at_once(cache: Cache) -> None:
    id = uuid4()
    await cache.get(PRODUCTS, id, loads(1))
    await evict(cache, id, 2)
    assert await cache.get(PRODUCTS, id, loads(2)) == {"version": 2}
    assert await cache.get(PRODUCTS, id, loads_nothing) == {"version": 2}


async def test_a_reader_that_loaded_before_the_commit_cannot_store_after_it(cache: Cache) -> None:
    id = uuid4()

    async def load_and_be_overtaken(id: UUID) -> tuple[int, dict[str, Any]]:
        await evict(cache, id, 2)
        return 1, {"version": 1}

    await cache.get(PRODUCTS, id, load_and_be_overtaken)
    assert await cache.get(PRODUCTS, id, loads(2)) == {"version": 2}


async def test_a_late_eviction_leaves_what_is_newer(cache: Cache) -> None:
    id = uuid4()
    await cache.get(PRODUCTS, id, loads(6))
    await evict(cache, id, 5)
    assert await cache.get(PRODUCTS, id, loads_nothing) == {"version": 6}


async def test_what_is_as_new_as_the_eviction_stays(workers: tuple[Cache, Cache]) -> None:
    cache, id = workers[0], uuid4()
    await cache.get(PRODUCTS, id, loads(1))
    await cache.evict(PRODUCTS, {id: 1})
    assert await cache.get(PRODUCTS, id, loads_nothing) == {"version": 1}


async def test_without_redis_everything_is_a_miss() -> None:
    cache = Cache("redis://127.0.0.1:1/0")
    id = uuid4()
    await evict(cache, id, 1)
    assert await cache.get(PRODUCTS, id, loads(1)) == {"version": 1}
    assert await cache.get(PRODUCTS, id, loads(2)) == {"version": 2}


async def test_an_eviction_that_redis_did_not_take_is_made_good(redis: Redis, cache: Cache) -> None:
    id, other = uuid4(), uuid4()
    await cache.get(PRODUCTS, id, loads(1))
    with hanging(redis):
        before = _times_away()
        await evict(cache, id, 2)
        assert _times_away() > before, "the metrics show it"
        assert await cache.get(PRODUCTS, id, loads(2)) == {"version": 2}
    await until(partial(_is_back, cache, other), "Redis is back", 30)
    assert await cache.get(PRODUCTS, id, loads(2)) == {"version": 2}


async def test_who_evicts_does_not_wait_for_those_who_come_meanwhile(
    workers: tuple[Cache, Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, comers = workers[0], list[asyncio.Task[None]]()
    evicts_some = cache._evict

    async def evicts_while_another_comes(owed: Any) -> None:
        assert len(comers) < AT_ONCE, "it goes on for as long as others come"
        comers.append(asyncio.create_task(evict(cache, uuid4(), 1)))
        await asyncio.sleep(0)
        await evicts_some(owed)

    monkeypatch.setattr(cache, "_evict", evicts_while_another_comes)
    await evict(cache, uuid4(), 1)
    monkeypatch.undo()
    await asyncio.gather(*comers)
    assert len(comers) == 1


async def test_a_redis_that_is_full_shows_no_old_state(workers: tuple[Cache, Cache]) -> None:
    one, other = workers
    id, absent = uuid4(), uuid4()
    await other.get(PRODUCTS, id, loads(1))
    await one._redis.config_set("maxmemory", 1)
    try:
        await one.evict(PRODUCTS, {absent: 2})
        await one.evict(PRODUCTS, {id: 2})
        assert await other.get(PRODUCTS, id, loads(2)) == {"version": 2}
    finally:
        await one._redis.config_set("maxmemory", 0)
    await other.get(PRODUCTS, absent, loads(1))  # it has read before the eviction
    assert await other.get(PRODUCTS, absent, loads(2)) == {"version": 2}


async def test_a_read_that_failed_postpones_no_eviction(workers: tuple[Cache, Cache]) -> None:
    one, other = workers
    id, unreadable = uuid4(), uuid4()
    await other.get(PRODUCTS, id, loads(1))
    await _make_unreadable(one, unreadable)
    assert await one.get(PRODUCTS, unreadable, loads(1)) == {"version": 1}
    await evict(one, id, 2)
    assert await other.get(PRODUCTS, id, loads(2)) == {"version": 2}


async def test_reads_go_on_while_evictions_fail(workers: tuple[Cache, Cache]) -> None:
    cache, id, unreadable = workers[0], uuid4(), uuid4()
    await cache.get(PRODUCTS, id, loads(1))
    await _make_unreadable(cache, unreadable)
    await evict(cache, unreadable, 2)
    assert await cache.get(PRODUCTS, id, loads_nothing) == {"version": 1}


async def test_what_is_older_is_evicted_once_redis_answers(redis: Redis, cache: Cache) -> None:
    older, same = uuid4(), uuid4()
    await cache.get(PRODUCTS, older, loads(1))
    await cache.get(PRODUCTS, same, loads(2))
    with hanging(redis):
        versions = {older: 2, same: 2, uuid4(): 1}
        evicting = asyncio.create_task(cache.evict_older(PRODUCTS, versions))
        await cache.get(PRODUCTS, uuid4(), loads(1))  # this waits for Redis until the timeout
        assert not evicting.done()
    await evicting
    await until(partial(_is_back, cache, uuid4()), "Redis is back", 30)
    assert await cache.get(PRODUCTS, older, loads(2)) == {"version": 2}
    assert await cache.get(PRODUCTS, same, loads_nothing) == {"version": 2}


async def _is_back(cache: Cache, id: UUID) -> bool:
    """Return whether Redis has taken all owed evictions and keeps entries again."""
    await cache.evict_owed()
    await cache.get(PRODUCTS, id, loads(1))
    try:
        await cache.get(PRODUCTS, id, loads_nothing)
    except AssertionError:
        return False
    return True


async def _make_unreadable(cache: Cache, id: UUID) -> None:
    """Have Redis refuse what the cache asks for this product."""
    await cast(Any, cache._redis).lpush(f"{PRODUCTS}:{id}", "not an entry")


def _times_away() -> float:
    return next(
        sample.value
        for metric in CACHE.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["outcome"] == "away"
    )
