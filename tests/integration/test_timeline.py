"""The timeline, and notices to its followers, from this worker and from others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app import orders, placing
from app.cache import ORDERS, Cache
from app.db.pools import Database
from app.db.rows import IdempotencyKey
from app.placing import Basket
from app.resilience.redis_breaker import RedisUnavailable
from app.timeline import Followers, events_after
from app.times import now
from devstack.stack import Stack
from tests.integration.hops import ANN, add_product, cancel, new_order, order_of, request_payment

PATIENCE = 30.0
NOWHERE = "redis://127.0.0.1:1/0"


@asynccontextmanager
async def worker(database: Database, cache: Cache) -> AsyncIterator[tuple[Database, Followers]]:
    """Open a worker's own pool, with its followers."""
    mine = Database(database._dsn, 4, "orders test")
    await mine.open()
    followers = Followers(mine, cache)
    mine.after_commit = [followers.after_commit]
    yield mine, followers
    await mine.close()


@pytest.fixture
async def cache(stack: Stack) -> AsyncIterator[Cache]:
    """The cache of the worker that is here."""
    cache = Cache(stack.redis.url)
    yield cache
    await cache.close()


@pytest.fixture
async def here(database: Database, cache: Cache) -> AsyncIterator[tuple[Database, Followers]]:
    async with worker(database, cache) as one:
        yield one


@pytest.fixture
async def there(database: Database) -> AsyncIterator[tuple[Database, Followers]]:
    """A worker that cannot reach Redis, and evicts nothing."""
    async with worker(database, Cache(NOWHERE)) as one:
        yield one


async def test_the_timeline_tells_each_event_oldest_first(database: Database) -> None:
    order_id = await new_order(database)
    await request_payment(database, order_id)
    cancelled = await cancel(database, order_id, reason="Too late")
    events = await events_after(database, order_id, 0)
    assert [(event["sequence"], event["type"]) for event in events] == [
        (1, "order.created"),
        (2, "order.payment_requested"),
        (3, "order.cancelled"),
    ]
    assert events[2] == {
        "sequence": 3,
        "type": "order.cancelled",
        "occurredAt": cancelled["updatedAt"],
        "requestId": "a request",
        "data": {
            "userId": str(ANN.id),
            "totalAmount": 99.99,
            "currency": "PLN",
            "reason": "Too late",
            "customerEmail": "ann@example.com",
        },
    }
    assert await events_after(database, order_id, 2) == events[2:]
    assert await events_after(database, order_id, 3) == []
    assert await events_after(database, uuid4(), 0) == []


async def test_what_a_key_is_replayed_with_is_not_told(database: Database) -> None:
    basket = Basket({await add_product(database): 1}, None)
    key = IdempotencyKey(ANN.id, str(uuid4()), b"fingerprint", now() + timedelta(hours=1))
    order, _ = await placing.place(database, placing.PlaceOrder(ANN, basket, key, "a request"))
    (event,) = await events_after(database, UUID(order["id"]), 0)
    assert event["data"].keys() == {
        *("userId", "totalAmount", "currency", "createdAt", "items", "customerEmail")
    }


async def test_a_long_timeline_is_read_whole(database: Database) -> None:
    order_id = uuid4()
    async with database.connection() as connection:
        await connection.execute(
            """
            insert into outbox (
                event_id, topic, order_id, sequence, request_id, occurred_at, payload
            )
            select gen_random_uuid(), 'order.paid', $1, n, 'r', now(), '{}'
            from generate_series(1, 300) n
            """,
            order_id,
        )
        try:
            events = await events_after(database, order_id, 50)
        finally:
            await connection.execute("delete from outbox where order_id = $1", order_id)
    assert [event["sequence"] for event in events] == list(range(51, 301))


async def test_a_commit_of_this_worker_wakes_at_once(here: tuple[Database, Followers]) -> None:
    database, followers = here
    product = await add_product(database)
    followed, other = await order_of(database, {product: 1}), await order_of(database, {product: 1})
    async with followers.follow(followed) as wake, followers.follow(followed) as second:
        await wake.wait()  # the first look at PostgreSQL
        wake.clear()
        second.clear()
        await cancel(database, other)
        assert not wake.is_set()
        await cancel(database, followed)
        assert wake.is_set() and second.is_set()


async def test_a_commit_of_another_worker_is_found(
    here: tuple[Database, Followers], there: tuple[Database, Followers]
) -> None:
    database, followers = here
    order_id = await new_order(database)
    async with followers.follow(order_id) as wake:
        await wake.wait()
        wake.clear()
        await cancel(there[0], order_id)
        async with asyncio.timeout(PATIENCE):
            await wake.wait()
    assert [e["type"] for e in await events_after(database, order_id, 1)] == ["order.cancelled"]


@pytest.mark.parametrize("is_taken", [True, False], ids=["evicted", "owed"])
async def test_who_is_told_of_a_change_does_not_read_the_old_state(
    database: Database,
    there: tuple[Database, Followers],
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    is_taken: bool,
) -> None:
    """The worker that made the change still owes its eviction; Redis may not take this one's."""

    async def unanswered(*_: Any, **__: Any) -> None:
        raise RedisUnavailable

    if not is_taken:
        monkeypatch.setattr(cache._evictions, "ask", unanswered)
    order_id = await new_order(database)

    async def read() -> str:
        order = await cache.get(ORDERS, order_id, lambda id: orders.get(database, id))
        return str(order["status"])

    async with worker(database, cache) as (_, followers), followers.follow(order_id) as wake:
        await wake.wait()
        assert await read() == "CREATED"
        wake.clear()
        await cancel(there[0], order_id)
        async with asyncio.timeout(PATIENCE):
            await wake.wait()
        assert await read() == "CANCELLED"


async def test_an_error_of_one_look_does_not_end_the_watch(
    here: tuple[Database, Followers],
    there: tuple[Database, Followers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, followers = here
    order_id, look, failed = await new_order(database), followers.look, asyncio.Event()

    async def fail_once() -> None:
        if failed.is_set():
            return await look()
        failed.set()
        raise asyncpg.InsufficientPrivilegeError("permission denied for table orders")

    monkeypatch.setattr(followers, "look", fail_once)
    async with followers.follow(order_id) as wake, asyncio.timeout(PATIENCE):
        await failed.wait()
        await cancel(there[0], order_id)
        await wake.wait()


async def test_nobody_is_woken_when_nothing_happened(here: tuple[Database, Followers]) -> None:
    database, followers = here
    order_id = await new_order(database)
    async with followers.follow(order_id) as wake:
        await wake.wait()
        wake.clear()
        await followers.look()
        assert not wake.is_set()


async def test_all_followed_orders_cost_one_query_a_look(
    here: tuple[Database, Followers], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, followers = here
    product = await add_product(database)
    order_ids = [await order_of(database, {product: 1}) for _ in range(5)]
    asked: list[list[UUID]] = []

    async def order_versions(connection: Any, ids: list[UUID]) -> list[Any]:
        asked.append(ids)
        return []

    monkeypatch.setattr("app.timeline.sql.order_versions", order_versions)
    monkeypatch.setattr("app.timeline.TICK_SECONDS", 3600)
    async with (
        followers.follow(order_ids[0]),
        followers.follow(order_ids[1]),
        followers.follow(order_ids[2]),
    ):
        asked.clear()
        await followers.look()
    assert [set(ids) for ids in asked] == [set(order_ids[:3])]


async def test_nothing_is_asked_while_nobody_follows(here: tuple[Database, Followers]) -> None:
    database, followers = here
    order_id = await new_order(database)
    async with followers.follow(order_id):
        watching = followers._watching
        assert watching is not None
    await asyncio.wait([watching])
    assert watching.cancelled() and followers._watching is None


async def test_followers_outlast_postgresql(
    here: tuple[Database, Followers], there: tuple[Database, Followers]
) -> None:
    """Connections are cut under the followers; a later read finds what happened meanwhile."""
    database, followers = here
    order_id = await new_order(database)
    async with followers.follow(order_id) as wake:
        await wake.wait()
        wake.clear()
        async with there[0].connection() as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'orders test' and pid <> pg_backend_pid()"
            )
        await cancel(there[0], order_id)
        async with asyncio.timeout(PATIENCE):
            await wake.wait()
