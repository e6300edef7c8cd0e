"""When records are fetched, delivered straight to their streams' queues, and committed."""

import asyncio
import logging
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, OffsetResetStrategy
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from app import app
from app.kafka.client import ConsumerThread
from app.kafka.consumer import _Consumer, _Producer

PAID, OTHER = TP("order.paid", 0), TP("order.paid", 1)
ROOM = 4
HIGHWATER = 99


class Schema:
    """Decodes a value to itself, and records the calls."""

    def __init__(self) -> None:
        self.decoded: list[bytes] = []

    def loads_value(self, app: Any, message: Any) -> bytes:
        self.decoded.append(message.value)
        return cast(bytes, message.value)


class Consumer:
    """A stand-in for a consumer, with two streams of one topic."""

    def __init__(self) -> None:
        self.schema, flow = Schema(), FlowControlEvent(initially_suspended=False)
        self.queues = [FlowControlQueue[Any](ROOM, flow_control=flow) for _ in range(2)]
        self.pressed: list[str] = []
        self.put_back: list[int] = []
        self.streams = SimpleNamespace(
            channels=[SimpleNamespace(queue=one, schema=self.schema) for one in self.queues],
            on_pressure_high=lambda: self.pressed.append("high"),
            on_pressure_drop=lambda: self.pressed.append("drop"),
        )
        self.lock = asyncio.Lock()
        self.ends: dict[TP, int] = {}
        self.app = SimpleNamespace(
            topics=SimpleNamespace(
                _tp_to_callback_lock=self.lock, _tp_to_callback={PAID: self.streams}
            ),
            monitor=SimpleNamespace(track_tp_end_offset=self.ends.__setitem__),
            create_event=lambda key, value, headers, message: SimpleNamespace(
                key=key, value=value, headers=headers, message=message
            ),
        )
        self._read_offset: dict[TP, int | None] = {PAID: None}
        self._committed_offset: dict[TP, int | None] = {PAID: None}
        self._gap: dict[TP, Any] = {}
        self._acked: dict[TP, list[int]] = {}
        self._acked_index: dict[TP, set[int]] = {}
        self._unacked_messages: list[Any] = []
        self.log = logging.getLogger(__name__)

    @property
    def read(self) -> int | None:
        return self._read_offset[PAID]

    @read.setter
    def read(self, offset: int | None) -> None:
        self._read_offset[PAID] = offset

    def highwater(self, tp: TP) -> int:
        return HIGHWATER

    def _to_message(self, tp: TP, record: Any) -> Any:
        return SimpleNamespace(tp=tp, refcount=0, **vars(record))

    def delivers(self, *offsets: int, tp: TP = PAID) -> bool:
        return _Consumer._deliver(cast(Any, self), tp, [record(offset) for offset in offsets])

    def waits(self, *offsets: int) -> bool:
        return _Consumer._put_back_if_full(
            cast(Any, self), PAID, [record(offset) for offset in offsets]
        )

    def _put_back(self, fetched: dict[TP, list[Any]]) -> None:
        self.put_back += [one.offset for one in fetched[PAID]]

    def meets(self, offset: int) -> None:
        _Consumer._forget_if_lost(cast(Any, self), PAID, offset)

    def _waiting(self, tp: TP) -> Any:
        return _Consumer._waiting(cast(Any, self), tp)

    def _streams(self, tp: TP) -> Any:
        return _Consumer._streams(cast(Any, self), tp)

    def is_next(self, offset: int) -> bool:
        return _Consumer._is_next(cast(Any, self), PAID, offset)

    def received(self) -> list[list[Any]]:
        """Return the events in each stream's queue."""
        return [[queue.get_nowait() for _ in range(queue.qsize())] for queue in self.queues]


def record(offset: int) -> Any:
    return SimpleNamespace(offset=offset, key=b"an order", value=b"%d" % offset, headers=[])


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


def test_all_streams_of_a_topic_get_the_same_events_in_order(consumer: Consumer) -> None:
    assert consumer.delivers(3, 4, 5)
    first, second = consumer.received()
    assert [event.message.offset for event in first] == [3, 4, 5]
    assert [event.value for event in first] == [b"3", b"4", b"5"]
    assert all(mine is theirs for mine, theirs in zip(first, second, strict=True))
    assert consumer.schema.decoded == [b"3", b"4", b"5"], "once for both"


def test_a_message_is_done_once_every_stream_has_let_go_of_it(consumer: Consumer) -> None:
    assert consumer.delivers(3)
    assert [event.message.refcount for event in consumer.received()[0]] == [2]


def test_what_was_delivered_was_read(consumer: Consumer) -> None:
    assert consumer.delivers(3, 4, 5)
    assert consumer.read == 5
    assert consumer.ends == {PAID: HIGHWATER}


def test_what_stands_below_what_was_read_is_new(consumer: Consumer) -> None:
    consumer.delivers(3, 4, 5)
    waiting = [event.message for event in consumer.queues[0]._queue]
    for message in waiting:
        message.acked = False
    consumer._acked, consumer._committed_offset = {PAID: [5]}, {PAID: 5}
    consumer.meets(6)
    assert (consumer.read, consumer._acked, consumer._committed_offset[PAID]) == (5, {PAID: [5]}, 5)
    under_way = [SimpleNamespace(tp=tp, acked=False) for tp in (PAID, OTHER)]
    consumer._unacked_messages = under_way
    consumer.meets(0)
    assert (consumer.read, consumer._acked, consumer._committed_offset[PAID]) == (None, {}, None)
    assert [message.acked for message in under_way] == [True, False]
    assert all(message.acked for message in waiting)
    assert consumer.is_next(0)


def test_a_queue_that_fills_holds_back_the_next_fetch(consumer: Consumer) -> None:
    assert consumer.delivers(*range(ROOM))
    assert "high" in consumer.pressed


def assert_nothing_happened(consumer: Consumer, *, read: int | None = None) -> None:
    assert consumer.received() == [[], []]
    assert (consumer.read, consumer.schema.decoded, consumer.ends) == (read, [], {})


def test_where_one_queue_lacks_room_no_stream_gets_anything(consumer: Consumer) -> None:
    taken = object()
    consumer.queues[1].put_nowait(taken)
    assert not consumer.delivers(*range(ROOM))
    assert consumer.received() == [[], [taken]]
    assert_nothing_happened(consumer)
    assert consumer.delivers(*range(ROOM)), "once there is room"


def test_what_has_no_room_comes_again_once_the_full_queue_has_drained(consumer: Consumer) -> None:
    full = consumer.queues[1]
    for _ in range(ROOM):
        full.put_nowait(object())
    assert consumer.waits(3, 4)
    assert (consumer.put_back, consumer.pressed) == ([3, 4], ["high"])
    assert consumer.read is None
    full.get_nowait()
    full.get_nowait()
    assert consumer.pressed == ["high"], "not yet"
    full.get_nowait()
    full.get_nowait()
    assert consumer.pressed == ["high", "drop"]
    assert not consumer.waits(3, 4)


def test_what_no_queue_could_hold_is_not_waited_for(consumer: Consumer) -> None:
    consumer.queues[0].put_nowait(object())
    assert not consumer.waits(*range(ROOM + 1))
    assert consumer.put_back == consumer.pressed == []


def test_a_gap_is_left_to_who_takes_note_of_it(consumer: Consumer) -> None:
    assert not consumer.delivers(3, 5)
    assert_nothing_happened(consumer)


async def test_while_the_streams_change_nothing_is_delivered(consumer: Consumer) -> None:
    async with consumer.lock:
        assert not consumer.delivers(3)
    assert_nothing_happened(consumer)
    assert consumer.delivers(3)


def test_what_no_stream_reads_is_not_delivered(consumer: Consumer) -> None:
    assert not consumer.delivers(3, tp=OTHER)
    assert_nothing_happened(consumer)


@pytest.mark.parametrize(
    ("read", "offset", "is_next"),
    [
        (None, 0, True),
        (None, 12, True),
        (5, 6, True),
        (5, 5, True),
        (5, 7, False),
        (5, 4, False),
    ],
)
def test_what_comes_next_leaves_nothing_out_and_comes_not_again(
    consumer: Consumer, read: int | None, offset: int, is_next: bool
) -> None:
    consumer.read = read
    assert consumer.is_next(offset) is is_next


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


def test_the_assigned_partitions_are_those_of_the_latest_assignment() -> None:
    thread: Any = ConsumerThread.__new__(ConsumerThread)
    client = SimpleNamespace(assigned=frozenset({TopicPartition("order.paid", 0)}))
    thread._consumer = SimpleNamespace(assignment=lambda: client.assigned)
    assert thread.assignment() == {PAID}
    assert thread.assignment() is thread.assignment(), "made once"
    client.assigned = frozenset({TopicPartition("order.paid", 1)})
    assert thread.assignment() == {OTHER}
    assert all(isinstance(tp, TP) for tp in thread.assignment())


def thread_with(committed: dict[TopicPartition, int | None]) -> Any:
    """Return a consumer's thread with those committed offsets, whose broker never answers."""
    subscription = SubscriptionState()
    subscription.assign_from_user(set(committed))
    fetcher: Any = Fetcher.__new__(Fetcher)
    fetcher._subscriptions, fetcher._records, fetcher._wait_consume_future = subscription, {}, None

    async def known(tps: Any) -> dict[TopicPartition, Any]:
        offsets = {tp: committed[tp] for tp in tps}
        return {tp: SimpleNamespace(offset=-1 if at is None else at) for tp, at in offsets.items()}

    client: Any = AIOKafkaConsumer.__new__(AIOKafkaConsumer)
    client._closed, client._request_timeout_ms = True, 60_000
    client._subscription, client._fetcher = subscription, fetcher
    client._coordinator = SimpleNamespace(fetch_committed_offsets=known)
    thread: Any = ConsumerThread.__new__(ConsumerThread)
    thread._consumer = client
    thread.app = SimpleNamespace(tables=SimpleNamespace(changelog_topics={"a changelog"}))
    return thread


async def test_a_partition_that_nobody_leads_is_read_from_its_beginning_and_not_waited_for() -> (
    None
):
    """The recovery would time out, begin again, and never let the other partitions be read."""
    fresh, known, changelog = (
        TopicPartition(topic, 0) for topic in ("order.paid", "order.created", "a changelog")
    )
    thread = thread_with({fresh: None, known: 7, changelog: None})
    states = thread._consumer._subscription.subscription.assignment._tp_state
    for state in states.values():
        state.seek(5)
    thread._consumer._fetcher._records[fresh] = "what was fetched from the old position"
    found = await asyncio.wait_for(thread.seek_to_committed(), 5)
    assert found == {fresh: None, known: 7, changelog: None}
    assert (states[known].position, states[changelog].position) == (7, 5)
    assert not states[fresh].has_valid_position, "so nothing is fetched from the old one"
    assert states[fresh].reset_strategy == OffsetResetStrategy.EARLIEST
    assert thread._consumer._fetcher._records == {}


@pytest.mark.parametrize(
    ("part", "waits"),
    [
        (ConsumerThread, "aiokafka.AIOKafkaConsumer.stop"),
        (_Consumer, "faust.transport.drivers.aiokafka.Consumer.on_stop"),
        (_Producer, "faust.transport.drivers.aiokafka.Producer.on_stop"),
    ],
)
async def test_a_kafka_that_stands_still_does_not_keep_a_worker_from_stopping(
    part: type[Any], waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def wait(_: object) -> None:
        with suppress(asyncio.CancelledError):  # Faust swallows one while it commits
            await answered.wait()
        await answered.wait()

    for module in ("client", "consumer"):
        monkeypatch.setattr(f"app.kafka.{module}.STOP_SECONDS", 0)
    monkeypatch.setattr(waits, wait)
    stopping = part.__new__(part)
    stopping._consumer = AIOKafkaConsumer.__new__(AIOKafkaConsumer)
    stopping._consumer._closed = True
    await asyncio.wait_for(stopping.on_stop(), 5)
    answered.set()


async def test_an_error_of_the_last_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("faust.transport.drivers.aiokafka.Consumer.on_stop", fail)
    with pytest.raises(ValueError, match="a bug"):
        await _Consumer.__new__(_Consumer).on_stop()


@pytest.mark.parametrize("is_being_reset", [False, True])
async def test_a_partition_of_which_nothing_comes_is_neither_an_error_nor_a_crash(
    is_being_reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """After minutes without news of it, while Faust looks whether all partitions go on."""
    tp = TopicPartition(*PAID)
    thread = thread_with({tp: None})
    if is_being_reset:
        thread._consumer._subscription.subscription.assignment.state_value(tp).timestamp = 500
        thread._consumer._fetcher.request_offset_reset({tp}, OffsetResetStrategy.EARLIEST)
    consumer: Any = app._new_consumer()
    consumer._thread = thread
    thread.consumer, thread.time_started, thread.log = consumer, -3600.0, consumer.log
    thread.tp_fetch_request_timeout_secs = 300.0
    await consumer.verify_all_partitions_active()
    consumer.verify_recovery_event_path(0.0, PAID)
    assert not caplog.records


async def test_where_all_partitions_have_moved_away_nothing_is_committed() -> None:
    """aiokafka refuses to commit nothing, of which Faust would end the worker."""
    thread, crashed_of = thread_with({TopicPartition(*OTHER): None}), []
    thread._consumer._group_id = "orders"

    async def crash(reason: BaseException) -> None:
        crashed_of.append(reason)

    thread.crash, thread.log = crash, logging.getLogger(__name__)
    thread.tp_last_committed_at = {}
    assert not await thread._commit({PAID: 3})
    assert not crashed_of


async def test_what_is_still_assigned_is_committed() -> None:
    thread, committed = thread_with({TopicPartition(*OTHER): None}), {}

    async def commit(offsets: dict[TopicPartition, Any]) -> None:
        committed.update({tp: one.offset for tp, one in offsets.items()})

    thread._consumer.commit, thread.tp_last_committed_at = commit, {}
    assert await thread._commit({PAID: 3, OTHER: 4})
    assert committed == {OTHER: 4}


FAR = 50_000_000_000
"""The offset behind a gap that no memory could hold one by one."""


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
