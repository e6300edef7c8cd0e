"""Workers come and go under load."""

import asyncio
import logging

import aiohttp
import asyncpg

from devstack.ports import free_port
from tests.chaos.audit import audit, reading, rest
from tests.chaos.deployment import Deployment, start_again
from tests.chaos.load import customers
from tests.chaos.test_relay import commit_orders
from tests.chaos.waiting import until

log = logging.getLogger(__name__)

SLOWEST = """
    select extract(epoch from max(ended.occurred_at - asked.occurred_at))::float
    from outbox asked join outbox ended using (order_id)
    where asked.topic = 'order.payment_requested'
      and ended.topic in ('order.completed', 'order.cancelled')
"""
BLOCKED = "select exists (select from pg_locks where not granted)"


async def test_workers_take_over_from_one_another(deployment: Deployment) -> None:
    """The relaying one of two is killed for good, and later a third one joins."""
    first = await deployment.start_ready_worker()
    await deployment.start_ready_worker()
    async with deployment.supervised(), customers(deployment, orders=300) as load:
        await load.reaches(0.3)
        deployment.kill_for_good(first)
        await load.reaches(0.7)
        await deployment.start_ready_worker()
    await audit(deployment, load.ends)


async def test_a_rolling_restart_loses_no_request(deployment: Deployment) -> None:
    """A customer who is refused a connection asks the other worker; no request fails."""
    workers = [await deployment.start_ready_worker(), await deployment.start_ready_worker()]
    async with customers(deployment, orders=400, rate=20) as load:
        for share, worker in ((0.1, workers[0]), (0.5, workers[1])):
            await load.reaches(share)
            await asyncio.to_thread(worker.stop)
            assert worker.why_ended().startswith("exit code 0"), worker.why_ended()
            worker.start()
            await asyncio.to_thread(worker.wait_ready)
    failures = [trouble for trouble in load.client.troubles if not was_refused(trouble)]
    assert not failures, "\n".join(failures)
    await audit(deployment, load.ends)
    async with reading(deployment) as connection:
        slowest = await connection.fetchval(SLOWEST)
    log.info("the slowest order took %.1f s from its payment's request to its end", slowest)


async def test_a_worker_that_stops_answers_and_ends_its_connections(deployment: Deployment) -> None:
    """It answers while a batch is in progress, and closes each connection after its answer."""
    await commit_orders(deployment)
    blocker = await asyncpg.connect(deployment.database)
    async with blocker.transaction():
        # No agent can end its batch while this lock is held.
        await blocker.execute("lock table orders in exclusive mode")
        worker = await deployment.start_ready_worker()
        await until(lambda: blocker.fetchval(BLOCKED), "an agent waits for the lock")
        async with aiohttp.ClientSession(worker.url) as session:
            assert "Connection" not in (await session.get("/livez")).headers
            stopping = asyncio.create_task(asyncio.to_thread(worker.stop))
            await until(lambda: refuses_new_work(session), "the worker begins to stop")
            assert (await session.get("/livez")).headers["Connection"] == "close"
    await stopping
    await blocker.close()
    assert worker.why_ended().startswith("exit code 0"), worker.why_ended()


async def refuses_new_work(session: aiohttp.ClientSession) -> bool:
    """Return whether the worker is no longer ready."""
    return (await session.get("/readyz")).status == 503


def was_refused(trouble: str) -> bool:
    """Return whether no worker accepted the request."""
    # A kept-alive connection may be closed while a request is in flight.
    refusals = (
        *("ClientConnectorError", "ServerDisconnected", "Connection reset by peer"),
        "Can not write request body",
    )
    return any(refusal in trouble for refusal in refusals)


async def test_a_worker_stays_ready_while_others_come_and_go(deployment: Deployment) -> None:
    """All are in a rebalance at once: a load balancer would be left without any."""
    worker = await deployment.start_ready_worker()
    statuses = set()

    async def watch(session: aiohttp.ClientSession) -> None:
        while True:
            statuses.add((await session.get("/readyz")).status)

    async with aiohttp.ClientSession(worker.url) as session:
        watching = asyncio.create_task(watch(session))
        deployment.kill_for_good(await deployment.start_ready_worker())
        placed = await commit_orders(deployment)
        assert await rest(deployment)
        assert not watching.done(), "it was answered all the time"
        watching.cancel()
    assert statuses == {200}
    await audit(deployment, placed)


async def test_what_piled_up_for_a_dead_worker_is_handled_by_the_other(
    deployment: Deployment,
) -> None:
    """The remaining worker takes over partitions with a backlog, and skips none of it."""
    await deployment.start_ready_worker()
    deployment.kill_for_good(await deployment.start_ready_worker())
    placed = await commit_orders(deployment)
    assert await rest(deployment)
    await audit(deployment, placed)


async def test_workers_find_a_broker_that_has_moved(deployment: Deployment) -> None:
    """Its new address is in KAFKA_BROKERS; no broker is left that would tell it."""
    broker, moved = deployment.stack.broker, free_port()
    deployment.environment["KAFKA_BROKERS"] += f",127.0.0.1:{moved}"
    await deployment.start_ready_worker()
    broker.kill()
    broker.port = moved
    await start_again(broker)
    placed = await commit_orders(deployment)
    assert await rest(deployment)
    await audit(deployment, placed)
