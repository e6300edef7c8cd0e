"""Tables that agents write batch by batch: to RocksDB at once, and to the changelog with it.

Faust's own way writes one entry while its event is current, and sends it by way of a message, a
future, a buffer and a task of its own. The bytes are the same, and so is what recovery makes of
them: before offsets are committed, Faust flushes the producer that is used here.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
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

TTL_SECONDS = 7 * 24 * 3600
"""As long as the changelog keeps its records."""

MEMORY = 64 * 1024**2
"""Bytes of a table, half for blocks that are read and half for buffers of what is written: for all
its partitions together, however many there are. Faust gives each 2 GiB and 192 MiB."""
BUFFERS = 2


class Table(faust.Table[str, Any]):
    """JSON values by text, in the partitions of the events that they are learnt from."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sent: dict[TopicPartition, int] = {}
        """The last offset of the changelog that is known to be there and not noted on the disk."""

    def holds(self, partition: int, key: str) -> bool:
        """Whether the partition has an entry for `key`."""
        store = cast(Any, self.data)
        database = store._dbs.get(partition)
        return database is not None and database.get(store._encode_key(key)) is not None

    def find(self, key: str) -> Any:
        """The value of `key`, from whichever partition of this worker's; None where there is none.

        Raises ValueError where an entry cannot be read.
        """
        store = cast(Any, self.data)
        raw_key = store._encode_key(key)
        found = (db.get(raw_key) for db in list(store._dbs.values()))
        raw = next((value for value in found if value is not None), None)
        return None if raw is None else store._decode_value(raw)

    async def put(self, entries: Iterable[tuple[int, str, Any]]) -> None:
        """Write entries of partition, key and value.

        Waits for the producer to have room, and not for the broker: an entry that the broker never
        gets is only missed by whoever has the partition next.
        """
        store, topic = cast(Any, self.data), self.changelog_topic.get_topic_name()
        written: dict[int, WriteBatch] = defaultdict(partial(WriteBatch, raw_mode=True))
        raw = []
        for partition, key, value in entries:
            raw.append((partition, store._encode_key(key), store._encode_value(value)))
            written[partition].put(*raw[-1][1:])
            self._sensor_on_set(self, key, value)
        for partition, batch in written.items():
            # What has gone to another worker meanwhile must not be opened again.
            if partition in store._dbs:
                store._dbs[partition].write(batch)
        for partition, raw_key, raw_value in raw:
            await self._send(topic, partition, raw_key, raw_value)

    async def _send(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        producer = cast(Any, self.app.producer)._producer
        try:
            sent = await producer.send(topic, value, key, partition=partition)
        except KafkaError as error:
            _lost(self.name, error)
        else:
            sent.add_done_callback(partial(self._acknowledged, topic, partition))

    def _acknowledged(self, topic: str, partition: int, sent: "asyncio.Future[Any]") -> None:
        if error := None if sent.cancelled() else sent.exception():
            _lost(self.name, error)
        elif not sent.cancelled():
            if not self._sent:
                asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note_sent)
            self._sent[TopicPartition(topic, partition)] = sent.result().offset

    def _note_sent(self) -> None:
        """Recovery begins behind what is noted on the disk."""
        store = cast(Any, self.data)
        sent, self._sent = self._sent, {}
        for place, offset in sent.items():
            if place.partition in store._dbs:
                store.set_persisted_offset(place, offset)


def _lost(name: str, error: BaseException) -> None:
    log.warning("An entry of %s is not in its changelog: %r", name, error)


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
