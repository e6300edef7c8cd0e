"""What is under way to the broker: who is sent, who rests, and what is refused for good."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from app import flights
from app.flights import LONGEST_REST, MOST_UNDER_WAY, SHORTEST_REST, Flights

ANN, BOB = uuid4(), uuid4()


class Broker:
    """Acknowledges what it is sent, but for topics it was given an answer for; None: no answer."""

    def __init__(self, **answers: Exception | None) -> None:
        self.answers = answers
        self.sent: list[str] = []

    async def send(self, topic: str, **message: Any) -> asyncio.Future[None]:
        self.sent.append(f"{topic} {message['value'].decode()}")
        acknowledged = asyncio.get_running_loop().create_future()
        answer = self.answers.get(topic, "acknowledged")
        if isinstance(answer, MessageSizeTooLargeError):
            raise answer
        if isinstance(answer, Exception):
            acknowledged.set_exception(answer)
        elif answer is not None:
            acknowledged.set_result(None)
        return acknowledged


class Clock:
    """Seconds that pass when it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(flights, "monotonic", clock)
    monkeypatch.setattr(flights, "PATIENCE_SECONDS", 0.01)
    return clock


def row(n: int, order_id: UUID, topic: str = "fine") -> dict[str, Any]:
    moment = datetime(2026, 1, 3, tzinfo=UTC)
    told = {"event_id": uuid4(), "request_id": "r", "occurred_at": moment, "payload": str(n)}
    return {"id": n, "order_id": order_id, "topic": topic, **told}


def flights_to(broker: Broker) -> Flights:
    return Flights(cast(Any, broker))


async def test_of_each_order_only_the_first_event_is_sent() -> None:
    broker = Broker()
    landed = await flights_to(broker).send([row(1, ANN), row(2, ANN), row(3, BOB)])
    assert [sent["id"] for sent in landed.sent] == [1, 3]
    assert broker.sent == ["fine 1", "fine 3"]


async def test_an_order_whose_event_could_not_be_sent_rests_ever_longer(clock: Clock) -> None:
    under_way = flights_to(Broker(stuck=KafkaTimeoutError()))
    rest = SHORTEST_REST
    for _ in range(10):
        landed = await under_way.send([row(1, ANN, "stuck"), row(2, BOB)])
        assert [sent["id"] for sent in landed.sent] == [2]
        clock.now += rest * 0.99
        assert under_way.held() == [ANN]
        clock.now += rest * 0.02
        assert under_way.held() == []
        rest = min(rest * 2, LONGEST_REST)


async def test_when_the_broker_is_back_nobody_rests_on(clock: Clock) -> None:
    broker = Broker(stuck=KafkaTimeoutError())
    under_way = flights_to(broker)
    await under_way.send([row(1, ANN, "stuck")])
    assert under_way.held() == [ANN]
    await under_way.send([row(2, BOB)])
    assert under_way.held() == []


async def test_what_is_not_acknowledged_holds_its_own_order_only(clock: Clock) -> None:
    broker = Broker(silent=None)
    under_way = flights_to(broker)
    landed = await under_way.send([row(1, ANN, "silent"), row(2, BOB)])
    assert [sent["id"] for sent in landed.sent] == [2]
    assert under_way.held() == [ANN]
    assert under_way.room == MOST_UNDER_WAY - 1
    under_way.abandon()


async def test_what_the_broker_refuses_for_good_is_told_and_the_rest_is_sent(clock: Clock) -> None:
    under_way = flights_to(Broker(large=MessageSizeTooLargeError()))
    landed = await under_way.send([row(1, ANN, "large"), row(2, BOB)])
    assert [sent["id"] for sent in landed.sent] == [2]
    assert [(refused["id"], type(error)) for refused, error in landed.refused] == [
        (1, MessageSizeTooLargeError)
    ]
    assert under_way.held() == []
