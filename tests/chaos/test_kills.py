"""A process is killed with -9 under load; no order is lost or processed twice."""

import aiohttp

from tests.chaos.audit import audit, count
from tests.chaos.load import customers
from tests.chaos.shop import Shop, start_again
from tests.chaos.waiting import until

WAITING = "select count(*) from outbox where published_at is null"


async def test_a_killed_worker_loses_no_order(shop: Shop) -> None:
    """Its successor takes over the orders in progress."""
    worker = await shop.hire_ready()
    async with shop.supervised(), customers(shop) as load:
        await load.reaches(0.5)
        worker.kill()
    await audit(shop, load.ends)


async def test_a_killed_broker_loses_no_order(shop: Shop) -> None:
    """Events wait in the outbox until it is back."""
    await shop.hire_ready()
    async with shop.supervised(), customers(shop) as load:
        await load.reaches(0.5)
        shop.stack.broker.kill()
        await until(lambda: count(shop, WAITING), "events wait for the broker")
        await until(lambda: is_down(shop), "the worker says that it is down")
        await start_again(shop.stack.broker)
    await audit(shop, load.ends)


async def test_a_killed_database_loses_no_order(shop: Shop) -> None:
    """What it has committed survives, and customers retry until it is back."""
    await shop.hire_ready()
    async with shop.supervised(), customers(shop) as load:
        await load.reaches(0.5)
        shop.stack.postgres.kill()
        await load.is_turned_away()
        await until(lambda: is_down(shop), "the worker says that it is down")
        await start_again(shop.stack.postgres)
    await audit(shop, load.ends)


async def test_a_killed_cache_is_not_missed(shop: Shop) -> None:
    """No customer sees an error, and every order ends."""
    await shop.hire_ready()
    async with shop.supervised(), customers(shop) as load:
        await load.reaches(0.5)
        shop.stack.redis.kill()
    assert load.client.troubles == []
    await audit(shop, load.ends)


async def is_down(shop: Shop) -> bool:
    """Whether the worker says so; it does not, once all is there again."""
    async with aiohttp.request("GET", f"{shop.workers[0].url}/health") as answer:
        return answer.status == 503 and (await answer.json())["status"] == "DOWN"
