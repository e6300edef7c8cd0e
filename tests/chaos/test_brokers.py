"""Brokers of a cluster are killed under load; every event has a copy on another one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.kafka import install
from devstack.server import ServerFailed
from devstack.stack import Stack
from tests.chaos.audit import audit, count
from tests.chaos.cluster import Cluster
from tests.chaos.deployment import Deployment, deployed, start_again
from tests.chaos.load import customers
from tests.chaos.test_kills import WAITING
from tests.chaos.waiting import until
from tests.missing import NOT_DURABLE, skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers, empty."""
    try:
        install(tmp_path / "maven.log")
    except ServerFailed:
        skip(NOT_DURABLE)
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def deployment(tmp_path: Path, cluster: Cluster) -> Iterator[Deployment]:
    """PostgreSQL and Redis beside the brokers, with schema, topics and catalogue, no worker."""
    with (
        Stack(tmp_path, cluster.environment) as stack,
        deployed(stack, tmp_path, cluster.environment) as deployment,
    ):
        yield deployment


async def test_lost_brokers_lose_no_order(cluster: Cluster, deployment: Deployment) -> None:
    """One is killed and comes back without its disk; then another one is, and stays away.

    The first one leads most partitions, the second one coordinates the workers' group.
    """
    workers = [await deployment.start_ready_worker(), await deployment.start_ready_worker()]
    async with customers(deployment, orders=400, rate=20) as load:
        await load.reaches(0.1)
        leader = await cluster.leader()
        leader.kill()
        shutil.rmtree(leader.folder)
        await start_again(leader)
        await until(cluster.is_in_sync, "it has a copy of everything")
        (await cluster.coordinator()).kill()
    assert load.client.troubles == []
    assert all(worker.alive for worker in workers)
    await audit(deployment, load.ends)


async def test_orders_wait_while_one_broker_of_three_is_left(
    cluster: Cluster, deployment: Deployment
) -> None:
    """They are accepted, and end when another broker is back."""
    workers = [await deployment.start_ready_worker(), await deployment.start_ready_worker()]
    async with customers(deployment, orders=100, rate=20) as load:
        await load.reaches(0.3)
        _, second, third = cluster.nodes.values()
        second.kill()
        third.kill()
        await load.reaches(1)
        assert await count(deployment, WAITING), "events wait for a second broker"
        await start_again(second)
    assert load.client.troubles == []
    assert all(worker.alive for worker in workers)
    await audit(deployment, load.ends)
