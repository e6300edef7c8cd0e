"""Tables whose entries are readable at once and written in batches to RocksDB and the changelog.

Faust writes each entry by itself while its event is current, and sends it through a message, a
future, a buffer and a task of its own. The bytes written here are the same, so recovery works as
usual. Before offsets are committed, all entries are written and the producer is flushed
(`app/kafka/consumer.py`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Any, cast

import faust
import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from rocksdict import WriteBatch

from app import app, monitor
from tables.store import StoreOptions, options_for

log = logging.getLogger(__name__)

NOTE_SECONDS = 1.0
"""How often acknowledged changelog offsets are stored on disk; recovery rereads that much."""

WRITE_SECONDS = 0.1
"""How long an entry may wait for its batch. A crash before the write loses it."""

FLUSH_SECONDS = 3600.0
"""How long a written entry may be in none of RocksDB's files. Only from files does it drop what is
over its time, and a partition's write buffer may take weeks to fill."""

Entries = dict[bytes, bytes]
"""Values by key, encoded."""


class Table(faust.Table[str, Any]):
    """JSON values by text key; an entry lives in the partition of the event it comes from."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sent: dict[TopicPartition, int] = {}
        """By changelog partition: the last acknowledged offset that is not stored on disk yet."""
        self._unwritten: dict[int, Entries] = defaultdict(dict)
        """By partition: the entries that were put and are not written yet."""
        self._unsent: dict[int, Entries] = defaultdict(dict)
        """By partition: the entries that are written and not sent to the changelog yet."""
        self._flushed = monotonic()
        """When RocksDB was last told to write its files, in seconds of `monotonic`."""
        self._writing: asyncio.TimerHandle | None = None
        self._send_lock = asyncio.Lock()

    def _new_store(self) -> Any:
        store = super()._new_store()
        cast(Any, store).rocksdb_options = StoreOptions(**cast(Any, self.options))
        return store

    def holds(self, partition: int, key: str) -> bool:
        """Return whether the partition has an entry for `key`."""
        raw_key = orjson.dumps(key)
        if raw_key in self._unwritten.get(partition, ()):
            return True
        database = cast(Any, self.data)._dbs.get(partition)
        return database is not None and database.get(raw_key) is not None

    def find(self, key: str) -> Any:
        """Return the value of `key` from any of this worker's partitions, or None.

        Raises ValueError if the entry cannot be decoded.
        """
        store, raw_key = cast(Any, self.data), orjson.dumps(key)
        sources = [*self._unwritten.values(), *store._dbs.values()]
        found = (source.get(raw_key) for source in sources)
        raw = next((value for value in found if value is not None), None)
        return None if raw is None else store._decode_value(raw)

    def put(self, entries: Iterable[tuple[int, str, Any]]) -> None:
        """Add entries of (partition, key, value); they are readable at once and written later."""
        added = list(entries)
        for partition, key, value in added:
            # As Faust's serializers would write them, each through several calls.
            self._unwritten[partition][orjson.dumps(key)] = orjson.dumps(value)
        monitor.count_updates(self, len(added))
        if self._unwritten:
            self._write_later()

    def _write_later(self) -> None:
        if self._writing is None:
            loop = asyncio.get_running_loop()
            self._writing = loop.call_later(WRITE_SECONDS, self._write_now)

    def _write_now(self) -> None:
        self.add_future(self._write_unasked())  # the worker crashes if it cannot write to its disk

    async def _write_unasked(self) -> None:
        """Write the entries, and send them unless others are being sent: then, send them later."""
        self._write_disks()
        if self._send_lock.locked():
            self._write_later()
        else:
            await self.write()

    async def write(self) -> None:
        """Write all entries that were put so far. Raises what RocksDB raises.

        They are on the disk at once, also while a partition of the changelog cannot be written.
        Waits until the producer has accepted them, which may wait for the broker to acknowledge the
        partition's earlier batches. An entry that never reaches the broker is missing only for the
        partition's next owner.
        """
        self._write_disks()
        async with self._send_lock:
            unsent, self._unsent = self._unsent, defaultdict(dict)
            for partition, entries in unsent.items():
                await self._send(partition, entries)

    def _write_disks(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        for partition, entries in self._unwritten.items():
            self._write_disk(partition, entries)
            self._unsent[partition].update(entries)
        self._unwritten = defaultdict(dict)
        if monotonic() - self._flushed > FLUSH_SECONDS:
            self._flushed = monotonic()
            for database in cast(Any, self.data)._dbs.values():
                database.flush(wait=False)

    def _write_disk(self, partition: int, entries: Entries) -> None:
        # A partition that has moved to another worker meanwhile must not be opened again.
        database = cast(Any, self.data)._dbs.get(partition)
        if database is not None:
            batch = WriteBatch(raw_mode=True)
            for key, value in entries.items():
                batch.put(key, value)
            database.write(batch)

    async def _send(self, partition: int, entries: Entries) -> None:
        topic = self.changelog_topic.get_topic_name()
        producer = cast(Any, self.app.producer)._producer
        if partition not in (producer.client.cluster.partitions_for_topic(topic) or {partition}):
            _lost(self.name, f"{topic} has no partition {partition}")
            return
        try:
            for records in _batches(producer, entries):
                last = records.record_count() - 1
                sent = await producer.send_batch(records, topic, partition=partition)
                sent.add_done_callback(partial(self._acknowledged, topic, partition, last))
        except KafkaError as error:
            _lost(self.name, error)

    def _acknowledged(
        self, topic: str, partition: int, last: int, sent: "asyncio.Future[Any]"
    ) -> None:
        """Note the changelog's last offset; `last` is the index of the last entry in the batch."""
        if error := None if sent.cancelled() else sent.exception():
            _lost(self.name, error)
        elif not sent.cancelled():
            if not self._sent:
                asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note_sent)
            self._sent[TopicPartition(topic, partition)] = sent.result().offset + last

    def _note_sent(self) -> None:
        """Store the acknowledged offsets on disk; recovery starts after them."""
        store = cast(Any, self.data)
        sent, self._sent = self._sent, {}
        for tp, offset in sent.items():
            if tp.partition in store._dbs:
                store.set_persisted_offset(tp, offset)


def _batches(producer: Any, entries: Entries) -> Iterator[Any]:
    """Yield all entries as producer batches; an oversized entry gets a batch of its own."""
    records = producer.create_batch()
    for key, value in entries.items():
        while records.append(key=key, value=value, timestamp=None) is None:
            yield records
            records = producer.create_batch()
    records.close()
    yield records


def _lost(name: str, error: BaseException | str) -> None:
    log.warning("Entries of %s are not in its changelog: %s", name, error)


def table(name: str, help: str) -> Table:
    """Create a changelog-backed table of JSON values with as many partitions as the topics."""
    partitions = app.conf.topic_partitions
    made = Table(
        app,
        name=name,
        beacon=app.tables.beacon,
        key_type=str,
        help=help,
        partitions=partitions,
        options=options_for(partitions),
    )
    app.tables.add(made)
    return made
