"""Which brokers a client asks for the leaders of partitions."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.structs import BrokerMetadata

import app.kafka.client

FROZEN, WELL = 1, 2
TOLD = SimpleNamespace(brokers=[WELL])


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What clients learn; they wait a hundredth of a second for a broker."""
    learnt: list[Any] = []
    monkeypatch.setattr(app.kafka.client, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(
        ClusterMetadata, "update_metadata", lambda _, metadata: learnt.append(metadata)
    )
    return learnt


def client_of(*nodes: int) -> Any:
    """Return a client that knows these brokers, and `kafka:9092` from its settings."""
    client: Any = AIOKafkaClient.__new__(AIOKafkaClient)
    client._conns, client._bootstrap_servers = {}, "kafka:9092"
    client.cluster = ClusterMetadata()
    client.cluster._brokers = {node: BrokerMetadata(node, "kafka", 9092, None) for node in nodes}

    async def connection(node: int) -> Any:
        return SimpleNamespace(send=lambda request: _answer(node))

    client._get_conn = connection
    return client


async def _answer(node: int) -> Any:
    if node == FROZEN:
        await asyncio.Event().wait()
    return TOLD


async def test_a_broker_that_stands_still_does_not_keep_the_others_from_being_asked(
    monkeypatch: pytest.MonkeyPatch, learnt: list[Any]
) -> None:
    """They know who leads its partitions. A request to it takes half a minute to fail."""
    client = client_of(FROZEN, WELL)
    orders = iter(([FROZEN, WELL], [WELL, FROZEN]))
    monkeypatch.setattr("random.shuffle", lambda nodes: nodes.sort(key=next(orders).index))
    async with asyncio.timeout(5):
        assert await client._metadata_update(client.cluster, [])
    assert learnt == [TOLD]


async def test_where_none_answers_the_brokers_of_the_settings_are_asked_next(
    learnt: list[Any],
) -> None:
    client = client_of(FROZEN)
    async with asyncio.timeout(5):
        assert not await client._metadata_update(client.cluster, [])
    assert learnt == []
    assert "kafka:9092" in client.cluster._brokers
