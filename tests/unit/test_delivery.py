"""When records are delivered straight to their streams' queues."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from app.kafka.delivery import Delivery

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
        return Delivery._deliver(cast(Any, self), tp, [record(offset) for offset in offsets])

    def waits(self, *offsets: int) -> bool:
        return Delivery._put_back_if_full(
            cast(Any, self), PAID, [record(offset) for offset in offsets]
        )

    def _put_back(self, fetched: dict[TP, list[Any]]) -> None:
        self.put_back += [one.offset for one in fetched[PAID]]

    def meets(self, offset: int) -> None:
        Delivery._forget_if_lost(cast(Any, self), PAID, offset)

    def _waiting(self, tp: TP) -> Any:
        return Delivery._waiting(cast(Any, self), tp)

    def _streams(self, tp: TP) -> Any:
        return Delivery._streams(cast(Any, self), tp)

    def is_next(self, offset: int) -> bool:
        return Delivery._is_next(cast(Any, self), PAID, offset)

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
