"""What Kafka is asked for where topics are made; the tests' broker has no replicas."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.admin import NewTopic

from app.operations import migrate


class Admin:
    """A client that keeps the topics that are asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, NewTopic] = {}

    async def create_topics(self, topics: list[NewTopic]) -> object:
        self.asked |= {topic.name: topic for topic in topics}
        return SimpleNamespace(topic_errors=[(topic.name, 0, None) for topic in topics])


@pytest.mark.parametrize(("replicas", "in_sync"), [(3, "2"), (2, "1"), (1, "1")])
async def test_what_is_acknowledged_is_on_all_replicas_but_one(replicas: int, in_sync: str) -> None:
    admin, topics = Admin(), migrate.all_topics(["app-handled-changelog"])
    await migrate._create(cast(Any, admin), topics, 8, replicas)
    assert admin.asked.keys() == topics.keys()
    for name, topic in admin.asked.items():
        assert topic.replication_factor == replicas, name
        assert topic.topic_configs["min.insync.replicas"] == in_sync, name
