"""A redelivered event is recognised by the tables or, if they lost it, by PostgreSQL."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterable
from uuid import uuid4

import aiohttp
import orjson
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from devstack.worker import Worker
from tests.chaos.audit import audit, rest, snapshot
from tests.chaos.deployment import Deployment, start_again
from tests.chaos.load import PIECES, PLENTIFUL, SCARCE, Load, at_the_counter
from tests.chaos.messages import forget_the_dead, handlers, produce, read_all
from tests.chaos.test_relay import commit_orders
from tests.chaos.waiting import until
from tests.furnish import furnish

DUPLICATES = "orders_duplicate_events_total"
REPLAYS = "orders_idempotent_replays_total"


async def test_a_worker_that_lost_its_disk_knows_every_answer_and_event(
    deployment: Deployment,
) -> None:
    """The tables are rebuilt from the changelog: repeated creations and events change nothing."""
    worker = await deployment.start_ready_worker()
    async with at_the_counter(deployment) as load:
        orders = await every_ending(load)
        await lose_disk(deployment, worker)
        for order in orders:
            await load.place_again(order)
        assert await metric(worker, REPLAYS) == {"table": len(orders)}
        known, before = await metric(worker, DUPLICATES), await snapshot(deployment)
        messages = await read_all(deployment.brokers)
        await produce(deployment.brokers, messages)
        assert await rest(deployment)
        assert await metric(worker, DUPLICATES) - known == handlings(messages)
        assert await snapshot(deployment) == before
    await audit(deployment, load.ends)


async def test_an_event_that_no_table_knows_is_decided_by_postgresql(
    deployment: Deployment,
) -> None:
    """Without its mark an event is handled again, and finds its effect already there."""
    worker = await deployment.start_ready_worker()
    async with at_the_counter(deployment) as load:
        await every_ending(load)
        assert await rest(deployment)
        known, before = await metric(worker, DUPLICATES), await snapshot(deployment)
        messages = await read_all(deployment.brokers)
        await produce(deployment.brokers, map(unknown, messages))
        assert await rest(deployment)
        assert await metric(worker, DUPLICATES) == known
        assert await snapshot(deployment) == before


async def test_what_comes_to_a_topic_that_lost_its_end_is_handled(deployment: Deployment) -> None:
    """The worker has read further than the broker now writes; what is sent again is known."""
    await deployment.start_ready_worker()
    async with at_the_counter(deployment) as load:
        for _ in range(8):
            await load.buy(PLENTIFUL)
        assert await rest(deployment)
        await lose_topic(deployment, "order.paid")
        for _ in range(8):
            await load.buy(PLENTIFUL)
        assert await rest(deployment)


async def test_a_topic_that_was_deleted_is_read_once_it_is_made_again(
    deployment: Deployment,
) -> None:
    """The worker runs on; what came meanwhile is sent as soon as the topic is there."""
    worker = await deployment.start_ready_worker()
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.brokers)
    await admin.start()
    await admin.delete_topics(["order.paid"])
    await admin.close()
    await until(lambda: "missing topic: 'order.paid'" in worker.log.read_text(), "it is missed")
    placed = await commit_orders(deployment)
    await asyncio.to_thread(furnish, deployment.environment, catalogue=False)
    assert await rest(deployment, 120)
    await audit(deployment, placed)


async def test_a_worker_starts_whose_disk_knows_more_than_the_changelog(
    deployment: Deployment,
) -> None:
    worker = await deployment.start_ready_worker()
    async with at_the_counter(deployment) as load:
        for _ in range(8):
            await load.buy(PLENTIFUL)
        assert await rest(deployment)
        worker.kill()
        await lose_topic(deployment, "orders-handled-changelog")
        await forget_the_dead(deployment.brokers)
        await start_again(worker)
        await load.buy(PLENTIFUL)
        assert await rest(deployment)
    assert "orders-handled-changelog', partition=" in worker.log.read_text()
    assert "has lost its end" in worker.log.read_text()


async def lose_topic(deployment: Deployment, topic: str) -> None:
    """Kill the broker, delete the topic's messages, and start it again."""
    deployment.stack.broker.kill()
    for partition in (deployment.stack.broker.folder / "data").glob(f"{topic}-*"):
        shutil.rmtree(partition)
    await start_again(deployment.stack.broker)


async def every_ending(load: Load) -> list[str]:
    """Place orders that complete, find nothing in stock, or are paid wrongly; return their ids."""
    rivals = [await load.place([SCARCE]) for _ in range(PIECES + 1)]
    for rival in rivals:
        await load.settle(rival, {"COMPLETED", "CANCELLED"})
    await load.buy(PLENTIFUL)
    await load.buy(PLENTIFUL, surplus=1)
    assert Counter(load.ends.values()) == {"COMPLETED": PIECES + 1, "CANCELLED": 2}
    return list(load.ends)


async def lose_disk(deployment: Deployment, worker: Worker) -> None:
    """Kill the idle worker, and start it with an empty folder."""
    assert await rest(deployment)
    worker.kill()
    await forget_the_dead(deployment.brokers)
    shutil.rmtree(worker.folder)
    await start_again(worker)
    assert await rest(deployment)


def handlings(messages: Iterable[ConsumerRecord]) -> Counter[str]:
    """Return by handler how many of the messages it receives."""
    by_topic = handlers()
    return Counter(name for message in messages for name in by_topic.get(message.topic, []))


def unknown(message: ConsumerRecord) -> ConsumerRecord:
    """Return the same message with an event id that no table knows."""
    event = {**orjson.loads(message.value), "eventId": str(uuid4())}
    message.value = orjson.dumps(event)
    return message


async def metric(worker: Worker, name: str) -> Counter[str]:
    """Return the counter's values by its only label."""
    async with aiohttp.request("GET", f"{worker.url}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return Counter({next(iter(one.labels.values())): int(one.value) for one in samples})
