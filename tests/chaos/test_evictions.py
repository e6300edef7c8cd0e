"""A worker dies while it still has to evict cache entries."""

import asyncio

from devstack.ports import free_port
from tests.chaos.audit import rest
from tests.chaos.deployment import Deployment
from tests.chaos.load import PLENTIFUL, SCARCE, Load, at_the_counter
from tests.chaos.messages import forget_the_dead
from tests.chaos.proxy import Proxies


async def test_what_a_dead_worker_owed_the_cache_is_evicted(deployment: Deployment) -> None:
    """Its successor evicts entries of recent changes, since no further event would."""
    stack, is_away = deployment.stack, False

    def target() -> int:
        return free_port() if is_away else stack.redis.port

    with Proxies() as proxies:
        way = proxies.in_front_of(target)
        deployment.environment["REDIS_URL"] = f"redis://127.0.0.1:{way.port}"
        worker = await deployment.start_ready_worker()
        async with at_the_counter(deployment, patience_seconds=60) as load:
            order = await load.place([*PLENTIFUL, SCARCE])
            path = f"/api/orders/{order['id']}"
            await load.client.expect({200}, "GET", path, token=load.token)
            before = await look(load)
            is_away = True
            way.cut()
            await load.pay(order)
            assert await rest(deployment), "the order is completed, and its events acknowledged"
            worker.kill()
            await forget_the_dead(deployment.brokers)
            is_away = False
            worker.start()
            await asyncio.to_thread(worker.wait_ready)
            await load.follow(order)
            assert load.ends[order["id"]] == "COMPLETED"
            assert await look(load) == before - 1


async def look(load: Load) -> int:
    """Return the available pieces of the scarce product."""
    path = f"/api/products/{load.products[SCARCE]}"
    product = await load.client.expect({200}, "GET", path, token=load.token)
    return int(product["availableQuantity"])
