"""Tables on the worker's disk and in Kafka: entries are found, and deleted in time."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.stores.rocksdb import RocksDBOptions, Store

from app import ids
from app.times import now, rfc3339
from tables.handled import handled
from tables.replays import recall, replays
from tables.store import COMPACTION_SECONDS, TTL_SECONDS, StoreOptions, options_for
from tests.chaos.waiting import until
from tests.integration.batchers import key_of

OPTIONS, KEY = StoreOptions(**options_for(4)), b"stock.reserve/1"


def test_a_store_that_exists_is_opened_with_today_s_options(tmp_path: Path) -> None:
    folder, today = tmp_path / "store", options_for(64)
    RocksDBOptions(**options_for(4)).open(folder).close()
    store = StoreOptions(**today).open(folder)
    assert store.property_int_value("rocksdb.block-cache-capacity") == today["block_cache_size"]
    store.close()
    newest = max(folder.glob("OPTIONS-*"), key=lambda file: int(file.name.partition("-")[2]))
    lines = [line.strip() for line in newest.read_text().splitlines()]
    assert f"write_buffer_size={today['write_buffer_size']}" in lines
    assert f"periodic_compaction_seconds={COMPACTION_SECONDS}" in lines
    assert "filter_policy=nullptr" not in lines


def test_an_index_and_a_filter_take_no_memory_beside_the_cache(tmp_path: Path) -> None:
    """Of the entries of a week they would take hundreds of MiB, and nothing would bound them."""
    few, many = (_memory_beside_the_cache(tmp_path / str(size), size) for size in (1_000, 100_000))
    assert many <= 2 * few


def _memory_beside_the_cache(folder: Path, entries: int) -> int:
    store = OPTIONS.open(folder)
    for number in range(entries):
        store.put(f"{number}/{ids.new_id()}".encode(), b"1")
    store.flush()
    store.compact_range(None, None)
    size = int(store.property_int_value("rocksdb.estimate-table-readers-mem"))
    store.close()
    return size


def test_the_stores_of_a_table_share_one_cache(tmp_path: Path) -> None:
    """Each would have a part of its own, and the busiest partition no more than the others."""
    options = StoreOptions(**options_for(4))
    one, other = (options.open(tmp_path / name) for name in ("one", "other"))
    one.put(KEY, b"1")
    one.flush()
    assert one.get(KEY) == b"1"
    used = [store.property_int_value("rocksdb.block-cache-usage") for store in (one, other)]
    assert used[0] == used[1] > 100
    one.close()
    other.close()


@pytest.mark.parametrize("broken", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_store_that_is_broken_is_made_anew(tmp_path: Path, broken: str) -> None:
    """The worker would end at each start, and each time hold up its partitions."""
    folder = filled_store(tmp_path)
    for file in folder.glob(broken):
        file.write_bytes(b"")
    store = OPTIONS.open(folder)
    assert store.get(KEY) is None
    store.put(KEY, b"2")
    store.close()
    assert OPTIONS.open(folder).get(KEY) == b"2"


def test_a_store_that_cannot_be_opened_is_left_as_it_is(tmp_path: Path) -> None:
    """Such as one that another process has open."""
    folder = filled_store(tmp_path)
    other = OPTIONS.open(folder)
    with pytest.raises(Exception, match="lock"):
        OPTIONS.open(folder)
    other.close()
    assert OPTIONS.open(folder).get(KEY) == b"1"


def filled_store(folder: Path) -> Path:
    """Return the folder of a closed store whose entry is in a file of its own."""
    store = OPTIONS.open(folder / "store")
    store.put(KEY, b"1")
    store.flush()
    store.close()
    return folder / "store"


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


PARTITIONS = range(4)
"""The partitions of this worker."""


class Batch(BatchBuilder):
    """A batch of the producer that exposes its entries."""

    def __init__(self, size: int) -> None:
        super().__init__(size, 0)
        self.entries: dict[bytes, bytes] = {}

    def append(self, *, timestamp: None, key: bytes, value: bytes) -> Any:
        taken = super().append(timestamp=timestamp, key=key, value=value)
        if taken is not None:
            self.entries[key] = value
        return taken


class Producer:
    """Records what it is given to send; the test answers for the broker."""

    def __init__(self) -> None:
        self.batch_size = 16_384
        self.sent: dict[tuple[str, int], list[dict[bytes, bytes]]] = defaultdict(list)
        """The entries of each batch, by topic and partition."""
        self.answers: list[asyncio.Future[Any]] = []
        """One future for each batch."""
        self.error: KafkaError | None = None
        self.is_written = asyncio.Event()
        """Whether the changelog can be written."""
        self.is_written.set()
        cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(PARTITIONS))
        self.client = SimpleNamespace(cluster=cluster)

    def create_batch(self) -> Batch:
        return Batch(self.batch_size)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        await self.is_written.wait()
        if self.error:
            raise self.error
        self.sent[topic, partition].append(batch.entries)
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


@pytest.fixture
def producer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Producer]:
    """The producer of the tables' changelogs; the tables have new partitions on disk."""
    producer, tables = Producer(), (handled, replays)
    monkeypatch.setattr(Store, "path", tmp_path)
    monkeypatch.setattr("tables.table.NOTE_SECONDS", 0)
    for table in tables:
        monkeypatch.setattr(table, "_data", None)
        assert None not in (table.data, table.changelog_topic), "made once, by the real app"
        for partition in PARTITIONS:
            table.data._db_for_partition(partition)
        client = SimpleNamespace(producer=SimpleNamespace(_producer=producer))
        monkeypatch.setattr(table, "app", client)
    yield producer
    for table in tables:
        for db in table.data._dbs.values():
            db.close()


@pytest.fixture
def brief_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of entries, of files and of write buffers be over after a second."""
    monkeypatch.setitem(cast(dict[str, Any], handled.options), "ttl", 1)
    monkeypatch.setattr("tables.store.COMPACTION_SECONDS", 1)
    monkeypatch.setattr("tables.table.FLUSH_SECONDS", 1)


def stored(partition: int, key: str) -> bool:
    """Return whether the disk has the entry."""
    return handled.data._dbs[partition].get(handled.data._encode_key(key)) is not None


async def test_an_entry_is_found_in_its_own_partition(producer: Producer) -> None:
    handled.put([(0, "stock.reserve/1", 1), (1, "stock.reserve/2", 1)])
    for _ in ("in memory", "on the disk"):
        assert handled.holds(0, "stock.reserve/1") and handled.holds(1, "stock.reserve/2")
        assert not handled.holds(1, "stock.reserve/1")
        assert not handled.holds(0, "stock.reserve/3")
        await handled.write()
    assert stored(0, "stock.reserve/1") and stored(1, "stock.reserve/2")


async def test_an_entry_leaves_the_disk_once_its_time_is_over(
    brief_stores: None, producer: Producer
) -> None:
    handled.put([(0, "stock.reserve/1", 1)])
    await handled.write()
    assert stored(0, "stock.reserve/1")

    async def is_gone() -> bool:
        handled.put([(0, "stock.reserve/2", 1)])
        await handled.write()
        return not stored(0, "stock.reserve/1")

    await until(is_gone, "RocksDB rewrites the file, without the entry")


async def test_what_is_put_is_written_unasked(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tables.table.WRITE_SECONDS", 0)
    monkeypatch.setattr(handled, "_loop", asyncio.get_running_loop())  # as in a worker
    handled.put([(0, "stock.reserve/1", 1)])

    async def is_written() -> bool:
        return stored(0, "stock.reserve/1") and bool(producer.sent)

    await until(is_written, "the entry is on the disk, and in the changelog")


async def test_a_value_is_found_in_whichever_partition_it_is(producer: Producer) -> None:
    answer = {"answer": "{}", "expiresAt": "2026-01-03T12:00:00.000000Z", "fingerprint": "00"}
    replays.put([(0, "ann/1", {**answer, "answer": "[]"}), (1, "ann/2", answer)])
    for _ in ("in memory", "on the disk"):
        assert replays.find("ann/2") == answer
        assert replays.find("ann/3") is None
        await replays.write()


async def test_an_answer_is_replayed_until_its_key_expires(producer: Producer) -> None:
    entry = {"fingerprint": b"a request".hex(), "answer": {"id": "1"}}
    valid, expired = key_of(b"a request"), replace(key_of(b"a request"), expires_at=now())
    for key in (valid, expired):
        told = {**entry, "expiresAt": rfc3339(key.expires_at)}
        replays.put([(0, f"{key.user_id}/{key.key}", told)])
    assert recall(valid) == {"id": "1"}
    assert recall(expired) is None


async def test_an_entry_is_written_over(producer: Producer) -> None:
    replays.put([(0, "ann/1", {"answer": "old"})])
    await replays.write()
    replays.put([(0, "ann/1", {"answer": "middle"}), (0, "ann/1", {"answer": "new"})])
    assert replays.find("ann/1") == {"answer": "new"}
    await replays.write()
    assert replays.find("ann/1") == {"answer": "new"}


async def test_the_changelog_gets_what_the_disk_holds(producer: Producer) -> None:
    handled.put([(0, "stock.reserve/1", 1), (3, "stock.reserve/2", 1)])
    await handled.write()
    topic = handled.changelog_topic_name
    assert producer.sent == {
        (topic, 0): [{b'"stock.reserve/1"': b"1"}],
        (topic, 3): [{b'"stock.reserve/2"': b"1"}],
    }
    for (_, partition), (entries,) in producer.sent.items():
        for key, value in entries.items():
            assert handled.data._dbs[partition].get(key) == value


async def test_what_does_not_fit_into_one_batch_goes_in_more(producer: Producer) -> None:
    producer.batch_size = 200
    handled.put((0, f"stock.reserve/{n}", 1) for n in range(20))
    await handled.write()
    (batches,) = producer.sent.values()
    assert len(batches) > 1
    assert [key for batch in batches for key in batch] == [
        b'"stock.reserve/%d"' % n for n in range(20)
    ]
    producer.answers[-1].set_result(SimpleNamespace(offset=30))
    await noted()
    tp = TopicPartition(handled.changelog_topic_name, 0)
    assert handled.data.persisted_offset(tp) == 30 + len(batches[-1]) - 1


async def test_recovery_begins_behind_the_last_entry_that_the_broker_has(
    producer: Producer,
) -> None:
    tps = [TopicPartition(handled.changelog_topic_name, n) for n in (0, 1)]
    handled.put((n % 2, f"stock.reserve/{n}", 1) for n in range(4))
    await handled.write()
    assert [handled.data.persisted_offset(tp) for tp in tps] == [None, None]
    for offset, answer in zip((10, 20), producer.answers, strict=True):
        answer.set_result(SimpleNamespace(offset=offset))
    await noted()
    assert [handled.data.persisted_offset(tp) for tp in tps] == [11, 21]
    handled.put([(1, "stock.reserve/5", 1)])
    await handled.write()
    producer.answers[-1].set_result(SimpleNamespace(offset=22))
    await noted()
    assert [handled.data.persisted_offset(tp) for tp in tps] == [11, 22]


async def test_an_entry_that_the_broker_never_gets_is_on_the_disk(producer: Producer) -> None:
    handled.put([(0, "stock.reserve/1", 1)])
    await handled.write()
    producer.answers[0].set_exception(RequestTimedOutError())
    await noted()
    producer.error = RequestTimedOutError()
    handled.put([(0, "stock.reserve/2", 1)])
    await handled.write()
    assert stored(0, "stock.reserve/1") and stored(0, "stock.reserve/2")
    tp = TopicPartition(handled.changelog_topic_name, 0)
    assert handled.data.persisted_offset(tp) is None


async def test_while_a_changelog_cannot_be_written_the_disk_is(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries are sent later, each key's last value last."""
    monkeypatch.setattr("tables.table.WRITE_SECONDS", 0)
    monkeypatch.setattr(replays, "_loop", asyncio.get_running_loop())
    producer.is_written.clear()
    replays.put([(0, "ann/1", "first")])
    first = asyncio.create_task(replays.write())
    await noted()
    for value in ("second", "third"):
        replays.put([(0, "ann/1", value), (1, "ann/2", value)])

        async def is_stored(stored: bytes = b'"%s"' % value.encode()) -> bool:
            found = [replays.data._dbs[partition].items() for partition in (0, 1)]
            return [dict(entries) for entries in found] == [
                {b'"ann/1"': stored},
                {b'"ann/2"': stored},
            ]

        await until(is_stored, "the entries are on the disk")
    assert not producer.sent
    producer.is_written.set()
    await asyncio.gather(first, replays.write())
    topic = replays.changelog_topic_name
    assert producer.sent == {
        (topic, 0): [{b'"ann/1"': b'"first"'}, {b'"ann/1"': b'"third"'}],
        (topic, 1): [{b'"ann/2"': b'"third"'}],
    }


async def test_a_partition_that_the_changelog_does_not_have_is_done_without(
    producer: Producer,
) -> None:
    """A topic has more partitions than the changelog: events of the others are marked as usual."""
    handled.put([(len(PARTITIONS), "stock.reserve/1", 1), (0, "stock.reserve/2", 1)])
    await handled.write()
    assert producer.sent == {(handled.changelog_topic_name, 0): [{b'"stock.reserve/2"': b"1"}]}


async def test_a_partition_that_has_gone_to_another_worker_is_not_opened_again(
    producer: Producer,
) -> None:
    handled.data._dbs.pop(2).close()
    handled.put([(2, "stock.reserve/1", 1)])
    await handled.write()
    assert len(producer.sent) == 1, "the changelog gets it all the same"
    producer.answers[0].set_result(SimpleNamespace(offset=7))
    await noted()
    assert not handled.holds(2, "stock.reserve/1")
    assert 2 not in handled.data._dbs


async def noted() -> None:
    """Let callbacks of the broker's answers, and what they start, run."""
    for _ in range(3):
        await asyncio.sleep(0)
