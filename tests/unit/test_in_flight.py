"""Events in flight to the broker: which are sent, which wait, and which are refused for good."""

import asyncio
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from app.db.rows import OutboxRow
from app.outbox import in_flight, silence
from app.outbox.in_flight import MAX_BACKOFF, MAX_IN_FLIGHT, MIN_BACKOFF, InFlight

ANN, BOB = uuid4(), uuid4()


class Broker:
    """Acknowledges each message unless its topic has another answer; None leaves it pending."""

    def __init__(self, **answers: Exception | None) -> None:
        self.answers = answers
        self.sent: list[str] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, topic: str, **message: Any) -> asyncio.Future[None]:
        await self.room.wait()
        self.sent.append(f"{topic} {message['value'].decode()}")
        acknowledged = asyncio.get_running_loop().create_future()
        answer = self.answers.get(topic, "acknowledged")
        if isinstance(answer, MessageSizeTooLargeError):
            raise answer
        if isinstance(answer, Exception):
            acknowledged.set_exception(answer)
        elif answer is not None:
            acknowledged.set_result(None)
        else:
            self.waiting.append(acknowledged)
        return acknowledged


class Clock:
    """A clock that advances when told, and slightly whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (in_flight, silence):
        monkeypatch.setattr(module, "monotonic", clock)
    return clock


def row(n: int, order_id: UUID, topic: str = "fine") -> OutboxRow:
    payload = f"{'Ann' if order_id == ANN else 'Bob'} {n}".encode()
    return OutboxRow(str(uuid4()), topic, order_id, n, "r", "2026-01-03T12:00:00.000000Z", payload)


def in_flight_to(broker: Broker, on_result: Callable[[], None] = lambda: None) -> InFlight:
    return InFlight(cast(Any, broker), lambda topic, order_id: 0, on_result)


async def come_down() -> None:
    """Let all pending callbacks run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_order_s_events_go_one_after_the_other() -> None:
    broker = Broker(slow=None)
    events = in_flight_to(broker)
    events.send([row(1, ANN, "slow"), row(2, ANN), row(1, BOB)])
    await come_down()
    assert broker.sent == ["slow Ann 1", "fine Bob 1"]
    assert events.excluded() == [ANN]
    broker.waiting[0].set_result(None)
    await come_down()
    assert broker.sent[2:] == ["fine Ann 2"]
    assert list(events.acknowledged) == [(BOB, 1), (ANN, 1), (ANN, 2)]
    assert events.excluded() == []


async def test_what_the_producer_has_no_room_for_goes_once_it_has() -> None:
    broker = Broker()
    broker.room.clear()
    events = in_flight_to(broker)
    events.send([row(1, ANN), row(2, ANN)])
    await come_down()
    assert (broker.sent, events.excluded()) == ([], [ANN])
    broker.room.set()
    await come_down()
    assert (broker.sent, events.excluded()) == (["fine Ann 1", "fine Ann 2"], [])
    assert list(events.acknowledged) == [(ANN, 1), (ANN, 2)]


async def test_what_is_abandoned_while_it_waits_for_room_is_not_sent() -> None:
    broker = Broker()
    broker.room.clear()
    events = in_flight_to(broker)
    events.send([row(1, ANN)])
    events.abandon()
    broker.room.set()
    await come_down()
    assert (broker.sent, list(events.acknowledged)) == ([], [])


async def test_what_is_behind_an_acknowledgement_that_is_just_heard_is_abandoned_too() -> None:
    broker = Broker(slow=None)
    events = in_flight_to(broker)
    events.send([row(1, ANN, "slow"), row(2, ANN)])
    await come_down()
    broker.waiting[0].set_result(None)
    events.abandon()
    await come_down()
    assert (broker.sent, list(events.acknowledged)) == (["slow Ann 1"], [(ANN, 1)])


async def test_what_is_committed_goes_at_once_where_it_is_next() -> None:
    broker = Broker(slow=None)
    events = in_flight_to(broker)
    assert events.send_committed([row(1, ANN, "slow")])
    assert events.send_committed([row(2, ANN), row(3, ANN)])
    assert events.send_committed([row(1, BOB), row(2, BOB)])
    await come_down()
    assert broker.sent == ["slow Ann 1", "fine Bob 1", "fine Bob 2"]
    broker.waiting[0].set_result(None)
    await come_down()
    assert broker.sent[3:] == ["fine Ann 2", "fine Ann 3"]


@pytest.mark.parametrize("before", [[], [1], [1, 2]])
async def test_what_may_have_something_before_it_is_looked_for(before: list[int]) -> None:
    broker = Broker()
    events = in_flight_to(broker)
    assert events.send_committed(row(n, ANN) for n in before)
    await come_down()
    assert not events.send_committed([row(len(before) + 2, ANN), row(1, BOB)])
    await come_down()
    assert broker.sent == [*(f"fine Ann {n}" for n in before), "fine Bob 1"]


async def test_what_may_have_something_between_it_and_what_is_in_flight_is_looked_for() -> None:
    broker = Broker(slow=None)
    events = in_flight_to(broker)
    assert events.send_committed([row(1, ANN, "slow"), row(2, ANN)])
    assert not events.send_committed([row(4, ANN)])
    await come_down()
    broker.waiting[0].set_result(None)
    await come_down()
    assert broker.sent == ["slow Ann 1", "fine Ann 2"]


async def test_what_is_heard_of_twice_goes_once() -> None:
    broker = Broker(slow=None)
    events = in_flight_to(broker)
    assert events.send_committed([row(1, ANN), row(1, BOB, "slow")])
    await come_down()
    events.send([row(1, ANN), row(2, ANN), row(1, BOB, "slow"), row(2, BOB)])
    assert events.send_committed([row(2, ANN), row(1, BOB, "slow")])
    await come_down()
    assert broker.sent == ["fine Ann 1", "slow Bob 1", "fine Ann 2"]
    assert events.send_committed([row(1, ANN), row(2, ANN)])
    await come_down()
    assert len(broker.sent) == 3


async def test_what_was_marked_and_waits_again_is_sent_again() -> None:
    broker = Broker()
    events = in_flight_to(broker)
    events.send_committed([row(n, ANN) for n in (1, 2, 3)])
    await come_down()
    events.marked(list(events.acknowledged.values()))
    events.send([row(2, ANN)])
    await come_down()
    assert broker.sent[3:] == ["fine Ann 2"]
    assert events.send_committed([row(4, ANN)])


async def test_it_forgets_how_far_orders_are_of_which_it_has_not_heard_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "MAX_KNOWN", 1)
    events = in_flight_to(Broker())
    events.send_committed([row(1, ANN), row(1, BOB)])
    await come_down()
    events.marked(list(events.acknowledged.values()))
    assert not events.send_committed([row(2, ANN)])
    assert events.send_committed([row(2, BOB)])


async def test_an_order_whose_event_could_not_be_sent_rests_ever_longer(clock: Clock) -> None:
    events = in_flight_to(Broker(stuck=KafkaTimeoutError()))
    rest = MIN_BACKOFF
    for n in range(1, 11):
        events.send([row(1, ANN, "stuck"), row(2, ANN), row(n, BOB)])
        await come_down()
        assert list(events.acknowledged) == [(BOB, n)]
        events.marked(list(events.acknowledged.values()))
        clock.now += rest * 0.99
        assert events.excluded() == [ANN]
        assert events.send_committed([row(1, ANN)])
        clock.now += rest * 0.02
        assert events.excluded() == []
        rest = min(rest * 2, MAX_BACKOFF)
    assert len(events.failed) == 10


async def test_when_the_broker_is_back_nobody_rests_on(clock: Clock) -> None:
    events = in_flight_to(Broker(stuck=KafkaTimeoutError()))
    events.send([row(1, ANN, "stuck")])
    await come_down()
    assert events.excluded() == [ANN]
    events.send([row(2, BOB)])
    await come_down()
    assert events.excluded() == []


async def test_what_is_not_acknowledged_holds_its_own_order_only(clock: Clock) -> None:
    broker = Broker(silent=None)
    events = in_flight_to(broker)
    events.send([row(1, ANN, "silent"), row(1, BOB)])
    await come_down()
    assert list(events.acknowledged) == [(BOB, 1)]
    assert events.excluded() == [ANN]
    assert events.room == MAX_IN_FLIGHT - 1
    events.abandon()
    await come_down()
    assert broker.waiting[0].cancelled()


async def test_a_partition_that_cannot_be_written_leaves_room_for_the_others(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "MAX_PER_PARTITION", 2)
    broker = Broker(stuck=None)
    events = in_flight_to(broker)
    stuck = [row(1, uuid4(), "stuck") for _ in range(5)]
    events.send(stuck[:4])
    assert events.send_committed([stuck[4], row(1, BOB)])
    await come_down()
    assert len(broker.sent) == 3 and events.room == MAX_IN_FLIGHT - 2
    assert sorted(events.excluded()) == sorted(one.order_id for one in stuck)
    broker.waiting[0].set_result(None)
    await come_down()
    clock.now += 2 * MIN_BACKOFF
    assert events.excluded() == [stuck[1].order_id]
    events.send([stuck[2]])
    await come_down()
    assert len(broker.sent) == 4


async def test_where_an_order_s_event_must_wait_its_next_one_does_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "MAX_PER_PARTITION", 1)
    broker = Broker(stuck=None)
    events = in_flight_to(broker)
    events.send([row(1, BOB, "stuck"), row(1, ANN, "stuck"), row(2, ANN)])
    assert events.send_committed([row(3, ANN)])
    await come_down()
    assert broker.sent == ["stuck Bob 1"]
    events.abandon()


async def test_what_was_behind_an_event_without_room_goes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "MAX_PER_PARTITION", 1)
    broker = Broker(slow=None, stuck=None)
    events = in_flight_to(broker)
    behind = [row(2, ANN, "stuck"), row(3, ANN)]
    events.send([row(1, BOB, "stuck"), row(1, ANN, "slow"), *behind])
    await come_down()
    stuck, slow = broker.waiting
    slow.set_result(None)
    await come_down()
    broker.answers.clear()
    stuck.set_result(None)
    await come_down()
    events.send(behind)
    await come_down()
    assert broker.sent[2:] == ["stuck Ann 2", "fine Ann 3"]


async def test_when_a_full_partition_takes_events_again_nobody_rests_on(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "MAX_PER_PARTITION", 1)
    broker = Broker(stuck=None)
    events = in_flight_to(broker)
    for _ in range(5):
        events.send([row(1, BOB, "stuck"), row(1, ANN, "stuck")])
        await come_down()
        clock.now += MAX_BACKOFF
    events.send([row(1, ANN, "stuck")])
    assert sorted(events.excluded()) == sorted([ANN, BOB])
    broker.waiting[0].set_result(None)
    await come_down()
    assert events.excluded() == []


async def test_what_was_sent_before_the_broker_went_away_does_not_hide_its_return(
    clock: Clock,
) -> None:
    broker = Broker(stuck=KafkaTimeoutError(), old=None)
    events = in_flight_to(broker)
    events.send([row(1, BOB, "old"), row(1, ANN, "stuck")])
    await come_down()
    broker.waiting[0].set_result(None)
    await come_down()
    assert events.excluded() == [ANN]
    events.send([row(2, BOB)])
    await come_down()
    assert events.excluded() == []


async def test_an_order_whose_event_is_acknowledged_in_the_end_rests_no_more(
    clock: Clock,
) -> None:
    """Others were acknowledged all the while, so this tells nothing of the broker."""
    broker = Broker(slow=None)
    events = in_flight_to(broker)
    events.send([row(1, ANN, "slow"), row(1, BOB)])
    await come_down()
    broker.waiting[0].set_exception(KafkaTimeoutError())
    await come_down()
    assert events.is_held_up
    clock.now += MAX_BACKOFF
    broker.answers.clear()
    events.send([row(1, ANN, "slow")])
    await come_down()
    assert not events.is_held_up
    assert events.send_committed([row(2, ANN)])
    await come_down()
    assert broker.sent[-1] == "fine Ann 2"


async def test_an_order_whose_event_is_refused_in_the_end_holds_nothing_up(clock: Clock) -> None:
    broker = Broker(stuck=KafkaTimeoutError())
    events = in_flight_to(broker)
    events.send([row(1, ANN, "stuck")])
    await come_down()
    assert events.is_held_up
    clock.now += MAX_BACKOFF
    broker.answers["stuck"] = MessageSizeTooLargeError()
    events.send([row(1, ANN, "stuck")])
    await come_down()
    assert len(events.refused) == 1 and not events.is_held_up


async def test_where_too_many_are_in_flight_the_next_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "MAX_IN_FLIGHT", 1)
    broker = Broker(silent=None)
    events = in_flight_to(broker)
    assert events.send_committed([row(1, ANN, "silent")])
    assert not events.send_committed([row(1, BOB)])
    await come_down()
    assert broker.sent == ["silent Ann 1"]
    events.send([row(1, BOB, "silent")])
    assert events.room == 0
    events.abandon()


async def test_it_tells_for_how_long_nothing_was_acknowledged(clock: Clock) -> None:
    broker = Broker(silent=None)
    events = in_flight_to(broker)
    assert events.silence.seconds == 0
    events.send([row(1, ANN, "silent")])
    clock.now += 10
    assert round(events.silence.seconds) == 10
    events.send([row(1, BOB)])
    await come_down()
    clock.now += 3
    assert round(events.silence.seconds) == 3
    broker.waiting[0].set_result(None)
    await come_down()
    clock.now += 5
    assert events.silence.seconds == 0


async def test_it_tells_for_how_long_one_partition_acknowledged_nothing(clock: Clock) -> None:
    broker = Broker(silent=None, large=MessageSizeTooLargeError())
    events = in_flight_to(broker)
    events.send([row(1, ANN, "silent")])
    for _ in range(3):
        clock.now += 10
        events.send([row(1, uuid4()), row(1, uuid4(), "large")])
        await come_down()
    assert round(events.silence.seconds_of_a_partition) == 30
    events.send([row(1, BOB, "silent")])
    broker.waiting[0].set_result(None)
    await come_down()
    clock.now += 5
    assert round(events.silence.seconds_of_a_partition) == 5
    broker.waiting[1].set_exception(KafkaTimeoutError())
    await come_down()
    clock.now += 5
    assert round(events.silence.seconds_of_a_partition) == 10, "a failure is no acknowledgement"
    broker.answers.clear()
    events.send([row(1, BOB, "silent")])
    await come_down()
    assert events.silence.seconds_of_a_partition == 0


async def test_the_partition_that_is_silent_for_longest_is_told_of(clock: Clock) -> None:
    events = in_flight_to(Broker(silent=None, slow=None))
    events.send([row(1, ANN, "silent")])
    clock.now += 10
    events.send([row(1, BOB, "slow")])
    clock.now += 5
    assert round(events.silence.seconds_of_a_partition) == 15
    events.abandon()


async def test_what_the_broker_refuses_for_good_is_told_and_the_rest_is_sent(clock: Clock) -> None:
    landings: list[None] = []
    events = in_flight_to(Broker(large=MessageSizeTooLargeError()), lambda: landings.append(None))
    events.send([row(1, ANN, "large"), row(2, ANN), row(1, BOB)])
    await come_down()
    assert list(events.acknowledged) == [(BOB, 1)]
    assert [(refused.sequence, type(error)) for refused, error in events.refused] == [
        (1, MessageSizeTooLargeError)
    ]
    assert events.excluded() == []
    assert len(landings) == 2
