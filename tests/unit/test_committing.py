"""Which offsets are committed, and what is done about gaps between them."""

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app import app
from app.kafka.consumer import _Consumer
from app.kafka.faust_app import OrderApp
from tables.handled import handled
from tables.replays import replays

PAID, OTHER = TP("order.paid", 0), TP("order.paid", 1)
FAR = 50_000_000_000
"""The offset behind a gap that no memory could hold one by one."""


async def test_no_offset_is_committed_before_the_tables_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    async def write() -> None:
        await asyncio.sleep(0)
        done.append("written")

    async def commit(*_: object) -> bool:
        done.append("committed")
        return True

    monkeypatch.setattr(driver.Consumer, "_commit_offsets", commit)
    consumer: Any = _Consumer.__new__(_Consumer)
    consumer.app = SimpleNamespace(write_tables=write, consumer_generation_id=1)
    consumer._read_offset, consumer._committed_offset = {PAID: 2, OTHER: 0}, {PAID: 3, OTHER: 9}
    assert await consumer._commit_offsets({PAID: 3})
    assert done == ["written", "committed"]
    assert consumer._committed_offset == {PAID: 3, OTHER: None}, "the other has lost its end"


@pytest.mark.parametrize("stops", [True, False])
async def test_a_worker_that_stops_does_without_what_its_disk_does_not_take(
    stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a full disk would break off the stop that it causes."""
    written: list[str] = []

    async def fail() -> None:
        raise Exception("IO error: No space left on device")  # as rocksdict raises it

    async def write() -> None:
        written.append("the other table")

    failing, other = app.tables.values()
    assert {failing, other} == {handled, replays}
    monkeypatch.setattr(failing, "write", fail)
    monkeypatch.setattr(other, "write", write)
    monkeypatch.setattr(OrderApp, "should_stop", stops)
    with nullcontext() if stops else pytest.raises(Exception, match="No space left"):
        await app.write_tables()
    assert written == (["the other table"] if stops else [])


@pytest.mark.parametrize("moves", ["joined anew", "joining", None])
async def test_what_was_chosen_before_a_rebalance_is_not_committed(
    moves: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that has been away may have been handled further by its other owner."""
    asked: list[Any] = []

    async def flush() -> None:
        consumer.app.consumer_generation_id += moves == "joined anew"
        coordinator._performed_join_prepare = moves == "joining"

    async def commit(offsets: Any) -> bool:
        asked.append(offsets)
        return True

    coordinator = SimpleNamespace(_performed_join_prepare=False)
    consumer: Any = _Consumer.__new__(_Consumer)
    consumer.app = SimpleNamespace(
        write_tables=flush,
        consumer_generation_id=1,
        producer=SimpleNamespace(flush=flush),
        tables=SimpleNamespace(on_commit=lambda offsets: None),
        monitor=SimpleNamespace(on_tp_commit=lambda offsets: None),
    )
    consumer._thread = SimpleNamespace(
        _consumer=SimpleNamespace(_coordinator=coordinator),
        assignment=lambda: {PAID},
        commit=commit,
    )
    consumer.log, consumer.in_transaction = SimpleNamespace(dev=lambda *_: None), False
    consumer._read_offset, consumer._committed_offset = {PAID: 300}, {PAID: 300}
    assert await consumer._commit_offsets({PAID: 350}) is (moves is None)
    assert asked == ([] if moves else [{PAID: 350}])
    assert consumer._committed_offset == {PAID: 300 if moves else None}


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A consumer that goes on at the committed offset 10."""
    nobody = cast(Any, lambda *_: None)
    consumer: Any = app.transport.Consumer(app.transport, nobody, nobody, nobody)
    monkeypatch.setattr(app.topics, "_acking_topics", {PAID.topic})
    consumer._committed_offset[PAID] = consumer._read_offset[PAID] = 10
    return consumer


def arrived(consumer: Any, offset: int) -> Any:
    """Return a message of PAID that a stream has got."""
    fields = ("timestamp_type", "headers", "key", "value", "checksum")
    sizes = {"serialized_key_size": 0, "serialized_value_size": 0}
    raw = SimpleNamespace(topic=PAID.topic, partition=0, offset=offset, timestamp=0, **sizes)
    raw.__dict__.update(dict.fromkeys(fields))
    message = _Consumer._to_message(consumer, PAID, raw)
    consumer.track_message(message)
    return message


async def test_a_gap_before_all_that_was_read_is_passed_over(reading: Any) -> None:
    """Of a partition that nobody read for longer than its messages are kept."""
    await reading._add_gap(PAID, 11, FAR)
    assert not reading._gap[PAID]
    assert reading._filter_committable_offsets([PAID]) == {}
    for n in range(2):
        reading.ack(arrived(reading, FAR + n))
    assert reading._filter_committable_offsets([PAID]) == {PAID: FAR + 2}


async def test_a_gap_behind_what_is_not_acknowledged_waits_for_it(reading: Any) -> None:
    before = arrived(reading, 10)
    await reading._add_gap(PAID, 11, 13)
    assert reading._committed_offset[PAID] == 10
    reading.ack(before)
    assert reading._filter_committable_offsets([PAID]) == {PAID: 11}
    reading._committed_offset[PAID] = 11
    reading.ack(arrived(reading, 13))
    assert reading._filter_committable_offsets([PAID]) == {PAID: 14}


async def test_a_gap_behind_what_is_not_committed_is_committed_with_it(reading: Any) -> None:
    reading.ack(arrived(reading, 10))
    await reading._add_gap(PAID, 11, 13)
    reading.ack(arrived(reading, 13))
    assert reading._filter_committable_offsets([PAID]) == {PAID: 14}


async def gap_during_commit(reading: Any, to: int, committed: int) -> None:
    """Add a gap from 11 while a commit is under way that ends with this offset of PAID."""
    reading._commit_fut = commit = asyncio.Future()
    adding = asyncio.create_task(reading._add_gap(PAID, 11, to))
    await asyncio.sleep(0)
    assert not adding.done(), "the commit sets the committed offset when it is made"
    reading._committed_offset[PAID], reading._commit_fut = committed, None
    commit.set_result(None)
    await adding


async def test_a_gap_behind_what_is_being_committed_is_committed_next(reading: Any) -> None:
    await gap_during_commit(reading, 13, committed=11)
    reading.ack(arrived(reading, 13))
    assert reading._filter_committable_offsets([PAID]) == {PAID: 14}


async def test_a_gap_is_passed_over_once_others_are_committed(reading: Any) -> None:
    await gap_during_commit(reading, FAR, committed=10)
    assert not reading._gap[PAID]
    reading.ack(arrived(reading, FAR))
    assert reading._filter_committable_offsets([PAID]) == {PAID: FAR + 1}
