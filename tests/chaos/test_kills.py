"""A process is killed with -9 under load; no order is lost or processed twice."""

import aiohttp

from tests.chaos.audit import audit, count
from tests.chaos.deployment import Deployment, start_again
from tests.chaos.load import customers
from tests.chaos.waiting import until

WAITING = "select count(*) from outbox where published_at is null"


async def test_a_killed_worker_loses_no_order(deployment: Deployment) -> None:
    """Its successor takes over the orders in progress."""
    worker = await deployment.start_ready_worker()
    async with deployment.supervised(), customers(deployment) as load:
        await load.reaches(0.5)
        worker.kill()
    await audit(deployment, load.ends)


async def test_a_killed_broker_loses_no_order(deployment: Deployment) -> None:
    """Events wait in the outbox until it is back."""
    await deployment.start_ready_worker()
    async with deployment.supervised(), customers(deployment) as load:
        await load.reaches(0.5)
        deployment.stack.broker.kill()
        await until(lambda: count(deployment, WAITING), "events wait for the broker")
        await until(lambda: is_down(deployment), "the worker says that it is down")
        await start_again(deployment.stack.broker)
    await audit(deployment, load.ends)


async def test_a_killed_database_loses_no_order(deployment: Deployment) -> None:
    """What it has committed survives, and customers retry until it is back."""
    await deployment.start_ready_worker()
    async with deployment.supervised(), customers(deployment) as load:
        await load.reaches(0.5)
        deployment.stack.postgres.kill()
        await load.is_turned_away()
        await until(lambda: is_down(deployment), "the worker says that it is down")
        await start_again(deployment.stack.postgres)
    await audit(deployment, load.ends)


async def test_a_killed_cache_is_not_missed(deployment: Deployment) -> None:
    """No customer sees an error, and every order ends."""
    await deployment.start_ready_worker()
    async with deployment.supervised(), customers(deployment) as load:
        await load.reaches(0.5)
        deployment.stack.redis.kill()
    assert load.client.troubles == []
    await audit(deployment, load.ends)


async def is_down(deployment: Deployment) -> bool:
    """Whether the worker says so; it does not, once all is there again."""
    async with aiohttp.request("GET", f"{deployment.workers[0].url}/health") as answer:
        return answer.status == 503 and (await answer.json())["status"] == "DOWN"
