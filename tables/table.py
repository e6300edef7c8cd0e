"""Tables whose entries are found at once, and written together: to RocksDB, and to the changelog.

Faust's own way writes one entry while its event is current, and sends it by way of a message, a
future, a buffer and a task of its own. The bytes are the same, and so is what recovery makes of
them: before offsets are committed, all entries are written, and the producer is flushed
(`app/kafka/consumer.py`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, cast

import faust
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from rocksdict import WriteBatch

from app import app

log = logging.getLogger(__name__)

NOTE_SECONDS = 1.0
"""How often it is noted on the disk how far the changelog is: recovery reads that much again."""

WRITE_SECONDS = 0.1
"""How long an entry may wait for others to be written with. A crash forgets it until then."""

TTL_SECONDS = 7 * 24 * 3600
"""As long as the changelog keeps its records."""

MEMORY = 64 * 1024**2
"""Bytes of a table, half for blocks that are read and half for buffers of what is written: for all
its partitions together, however many there are. Faust gives each 2 GiB and 192 MiB."""
BUFFERS = 2

Entries = dict[bytes, bytes]
"""Values by key, encoded."""


class Table(faust.Table[str, Any]):
    """JSON values by text, in the partitions of the events that they are learnt from."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sent: dict[TopicPartition, int] = {}
        """The last offset of the changelog that is known to be there and not noted on the disk."""
        self._unwritten: dict[int, Entries] = defaultdict(dict)
        """By partition: what was put and is not written."""
        self._writing: asyncio.TimerHandle | None = None
        self._write_lock = asyncio.Lock()

    def holds(self, partition: int, key: str) -> bool:
        """Whether the partition has an entry for `key`."""
        store = cast(Any, self.data)
        raw_key = store._encode_key(key)
        if raw_key in self._unwritten.get(partition, ()):
            return True
        database = store._dbs.get(partition)
        return database is not None and database.get(raw_key) is not None

    def find(self, key: str) -> Any:
        """The value of `key`, from whichever partition of this worker's; None where there is none.

        Raises ValueError where an entry cannot be read.
        """
        store = cast(Any, self.data)
        raw_key = store._encode_key(key)
        places = [*self._unwritten.values(), *store._dbs.values()]
        found = (place.get(raw_key) for place in places)
        raw = next((value for value in found if value is not None), None)
        return None if raw is None else store._decode_value(raw)

    def put(self, entries: Iterable[tuple[int, str, Any]]) -> None:
        """Take entries of partition, key and value; they are found from now on."""
        store = cast(Any, self.data)
        for partition, key, value in entries:
            self._unwritten[partition][store._encode_key(key)] = store._encode_value(value)
            self._sensor_on_set(self, key, value)
        if self._writing is None and self._unwritten:
            loop = asyncio.get_running_loop()
            self._writing = loop.call_later(WRITE_SECONDS, self._write_now)

    def _write_now(self) -> None:
        self.add_future(self.write())  # the worker crashes where it cannot write its disk

    async def write(self) -> None:
        """Write what was put until now. Raises what RocksDB raises.

        Waits until the producer has taken it, for which a partition's entries of before may have to
        reach the broker: an entry that it never gets is only missed by whoever has the partition
        next.
        """
        async with self._write_lock:
            if self._writing is not None:
                self._writing.cancel()
                self._writing = None
            unwritten = self._unwritten
            for partition, entries in unwritten.items():
                self._write_disk(partition, entries)
            self._unwritten = defaultdict(dict)
            for partition, entries in unwritten.items():
                await self._send(partition, entries)

    def _write_disk(self, partition: int, entries: Entries) -> None:
        # What has gone to another worker meanwhile must not be opened again.
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
        """Note how far the changelog is; `last` is the place of the batch's last entry in it."""
        if error := None if sent.cancelled() else sent.exception():
            _lost(self.name, error)
        elif not sent.cancelled():
            if not self._sent:
                asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note_sent)
            self._sent[TopicPartition(topic, partition)] = sent.result().offset + last

    def _note_sent(self) -> None:
        """Recovery begins behind what is noted on the disk."""
        store = cast(Any, self.data)
        sent, self._sent = self._sent, {}
        for place, offset in sent.items():
            if place.partition in store._dbs:
                store.set_persisted_offset(place, offset)


def _batches(producer: Any, entries: Entries) -> Iterator[Any]:
    """All entries, as the producer's batches; an entry that is larger than one has one alone."""
    records = producer.create_batch()
    for key, value in entries.items():
        while records.append(key=key, value=value, timestamp=None) is None:
            yield records
            records = producer.create_batch()
    records.close()
    yield records


def _lost(name: str, error: BaseException | str) -> None:
    log.warning("Entries of %s are not in its changelog: %s", name, error)


def options_for(partitions: int) -> dict[str, int]:
    """RocksDB's, for each of so many partitions."""
    return {
        "block_cache_size": MEMORY // 2 // partitions,
        "write_buffer_size": MEMORY // 2 // BUFFERS // partitions,
        "max_write_buffer_number": BUFFERS,
        "ttl": TTL_SECONDS,
    }


def table(name: str, help: str) -> Table:
    """A changelog-backed table of JSON values, spread over the topics' partitions."""
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
