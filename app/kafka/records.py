"""Fetched records, whose headers may have names that are not UTF-8.

Kafka's protocol forbids such names, but brokers do not check. aiokafka reads a batch record by
record while it fetches, and would raise UnicodeDecodeError in the midst of it: the rest of the
batch is lost, and the positions of other partitions have moved. Here such a batch is read once
more, with the names escaped, so that its messages are handled as any others.
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

LENGTH = struct.Struct(">8xi")
"""The beginning of a batch: its first offset, and the number of bytes that come after these two."""
MAGIC_AT = 16
"""Where the version of a batch's format stands."""
MAGIC = 2
"""The first version that has headers."""


class Records:
    """The batches of one partition in the answer to a fetch, as aiokafka's fetcher reads them."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._records = MemoryRecords(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        """Return the next batch. Raises CorruptRecordException."""
        batch: Any = self._records.next_batch()
        end = LENGTH.size + LENGTH.unpack_from(self._data)[0]
        raw, self._data = self._data[:end], self._data[end:]
        return batch if raw[MAGIC_AT] < MAGIC or batch.is_control_batch else _Batch(batch, raw)


class _Batch:
    """A batch of aiokafka's, and its bytes."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        """Read all records at once. Raises CorruptRecordException."""
        try:
            records = list(self._batch)
        except (UnicodeDecodeError, CorruptRecordException):
            # The parser in C raises the first of a header's name, and that in Python the second.
            records = _with_names_escaped(self._raw)
        return iter(records)


class _Buffer(bytearray):
    """The bytes of uncompressed records; whatever is decoded from a slice decodes."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Buffer(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


def _with_names_escaped(raw: memoryview) -> list[Any]:
    batch = _DefaultRecordBatchPy(raw)
    batch._maybe_uncompress()
    batch._buffer = _Buffer(batch._buffer)
    return list(batch)
