"""Tables forget: on the worker's disk, and in Kafka."""

from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from faust.stores.rocksdb import RocksDBOptions

from tables.handled import handled
from tables.options import OPTIONS, TTL_SECONDS
from tables.replays import replays
from tests.chaos.waiting import until


async def test_an_entry_leaves_the_disk_once_its_time_is_over(tmp_path: Path) -> None:
    store = RocksDBOptions(**{**OPTIONS, "ttl": 1}).open(tmp_path / "store")
    store.put(b"stock.reserve/1", b"1")
    store.flush()

    async def is_gone() -> bool:
        store.compact_range(None, None)
        return store.get(b"stock.reserve/1") is None

    await until(is_gone, "RocksDB drops the entry when it compacts")
    store.close()


async def test_kafka_keeps_a_changelog_no_longer(environment: dict[str, str]) -> None:
    changelogs = [table.changelog_topic_name for table in (handled, replays)]
    admin = AIOKafkaAdminClient(bootstrap_servers=environment["KAFKA_BROKERS"])
    await admin.start()
    try:
        topics = [ConfigResource(ConfigResourceType.TOPIC, name) for name in changelogs]
        (answer,) = await admin.describe_configs(topics)
    finally:
        await admin.close()
    for _, _, _, name, entries in answer.resources:
        found = {key: value for key, value, *_ in entries}
        assert found["cleanup.policy"] == "compact,delete", name
        assert found["retention.ms"] == str(TTL_SECONDS * 1000), name
        # Only closed segments are deleted.
        assert int(found["segment.ms"]) < TTL_SECONDS * 1000, name
