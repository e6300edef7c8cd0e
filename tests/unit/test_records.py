"""Records whose headers have names that are not UTF-8 are read as any others."""

import struct
from collections.abc import Collection
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import memory_records
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from app.kafka import records
from tests.misnamed import NAME, Misnamed, builder

PLACE = TopicPartition("order.paid", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.fixture(params=["C", "Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser that aiokafka uses, by how it was installed."""
    if request.param == "Python":
        monkeypatch.setattr(memory_records, "DefaultRecordBatch", _DefaultRecordBatchPy)
        monkeypatch.setattr(records, "MemoryRecords", memory_records._MemoryRecordsPy)


def batch(first: int, size: int, bad: Collection[int] = (), codec: str = "none") -> bytearray:
    """Return a batch with offsets from `first` on; those in `bad` have a bad header's name."""
    made = builder(CODECS[codec])
    for number in range(size):
        headers = [("ce_id", b"1"), (Misnamed() if first + number in bad else "name", None)]
        made.append(number, 1000 + number, b"key", b"%d" % (first + number), headers)
    return signed(made.build(), first)


def signed(raw: bytearray, first: int) -> bytearray:
    """Give the batch its first offset and, behind that, its checksum."""
    struct.pack_into(">q", raw, 0, first)
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return raw


def read(*batches: bytes, position: int = 0) -> Any:
    """Return what aiokafka's fetcher reads from an answer with these batches."""
    assert fetcher.MemoryRecords is records.Records
    answer = fetcher.MemoryRecords(b"".join(batches))
    return fetcher.PartitionRecords(PLACE, answer, None, position, None, None, True, 0)


@pytest.mark.parametrize("codec", CODECS)
def test_every_record_of_every_batch_is_read(codec: str) -> None:
    cut_off = batch(15, 5)[:40]
    answer = read(
        batch(0, 5, {1, 3, 4}, codec), batch(5, 5), batch(10, 5, {10}, codec), cut_off, position=2
    )
    found = list(answer)
    assert [(one.offset, one.value) for one in found] == [(n, b"%d" % n) for n in range(2, 15)]
    assert [one.timestamp for one in found[:3]] == [1002, 1003, 1004]
    assert answer.next_fetch_offset == 15
    names = {one.offset: one.headers[1][0] for one in found}
    assert {offset for offset, name in names.items() if name == NAME} == {3, 4, 10}
    assert all(one.headers[0] == ("ce_id", b"1") for one in found)
    assert all(one.headers[1] == (names[one.offset], None) for one in found)


def test_what_comes_in_parts_is_read_in_parts() -> None:
    answer = read(batch(0, 5, {1, 3}))
    assert [next(answer).offset for _ in range(2)] == [0, 1]
    assert answer.next_fetch_offset == 2
    assert [one.offset for one in answer] == [2, 3, 4]


def test_what_a_broker_has_spoilt_is_refused() -> None:
    spoilt = batch(0, 3, {1})
    spoilt[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        next(read(spoilt))


def test_records_that_do_not_fit_their_batch_are_refused() -> None:
    spoilt = batch(0, 3, {1})
    struct.pack_into(">i", spoilt, 57, 2)  # it says that it has two
    with pytest.raises(CorruptRecordException):
        list(read(signed(spoilt, 0)))


def test_control_batches_are_left_out() -> None:
    control = batch(0, 1)
    struct.pack_into(">h", control, 21, 0x20)
    assert [one.offset for one in read(signed(control, 0), batch(1, 2))] == [1, 2]


def test_messages_of_a_format_without_headers_are_read() -> None:
    old = [LegacyRecordBatchBuilder(1, 0, 1000) for _ in range(2)]
    for number, one in enumerate(old):
        one.append(number, 1000, b"key", b"value")
    answer = read(*(bytes(one.build()) for one in old))
    assert [one.offset for one in answer] == [0, 1]
