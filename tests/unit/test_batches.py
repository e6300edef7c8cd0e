"""Which of its stream's queued events an agent takes as one batch."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from agents.stream import BATCH, batches

GENERATION = 7


class Stream:
    """A stream with the queue that a worker would give it."""

    def __init__(self, flow: FlowControlEvent) -> None:
        self.queue: ThrowableQueue[Any] = ThrowableQueue(flow_control=flow)
        self.channel = SimpleNamespace(queue=self.queue)
        self.is_started = False

    async def maybe_start(self) -> None:
        self.is_started = True

    def receives(self, *arrived: Any) -> None:
        for one in arrived:
            self.queue.put_nowait(one)

    async def stops(self) -> None:
        await self.queue.throw(StopAsyncIteration())


class Worker:
    """A stand-in for the app, which records tracked and seen messages."""

    def __init__(self) -> None:
        self.consumer_generation_id = GENERATION
        self.flow_control = FlowControlEvent(initially_suspended=False)
        self.consumer = SimpleNamespace(track_message=self._track)
        self.monitor = SimpleNamespace(on_stream_event_in=self._see)
        self.tracked: list[int] = []
        self.seen: list[int] = []

    def _track(self, message: Any) -> None:
        self.tracked.append(message.offset)

    def _see(self, tp: Any, offset: int, stream: Any, event: Any) -> None:
        self.seen.append(offset)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr("agents.stream.app", worker)
    monkeypatch.setattr("agents.stream.monitor", worker.monitor)
    return worker


@pytest.fixture
def stream(worker: Worker) -> Stream:
    return Stream(worker.flow_control)


def message(offset: int, generation: int = GENERATION) -> Any:
    raw = SimpleNamespace(tp="topic/0", offset=offset, generation_id=generation, tracked=False)
    return SimpleNamespace(message=raw)


def batches_of(stream: Stream) -> AsyncIterator[list[Any]]:
    return batches(stream)  # type: ignore[arg-type]


async def offsets(found: AsyncIterator[list[Any]]) -> list[int]:
    """Return the offsets of the next batch."""
    return [one.message.offset for one in await anext(found)]


async def test_everything_that_has_arrived_is_one_batch_in_order(
    worker: Worker, stream: Stream
) -> None:
    stream.receives(*(message(n) for n in range(5)))
    found = batches_of(stream)
    assert await offsets(found) == [0, 1, 2, 3, 4]
    assert stream.is_started
    assert worker.tracked == worker.seen == [0, 1, 2, 3, 4]
    stream.receives(message(5))
    assert await offsets(found) == [5]


async def test_a_single_message_waits_for_no_company(worker: Worker, stream: Stream) -> None:
    found = batches_of(stream)
    waiting = asyncio.ensure_future(offsets(found))
    while not stream.is_started:
        await asyncio.sleep(0)
    stream.receives(message(0))
    assert await waiting == [0]


async def test_a_batch_has_an_end(worker: Worker, stream: Stream) -> None:
    stream.receives(*(message(n) for n in range(BATCH + 2)))
    found = batches_of(stream)
    assert await offsets(found) == list(range(BATCH))
    assert worker.tracked == list(range(BATCH)), "what is not taken waits untracked"
    assert await offsets(found) == [BATCH, BATCH + 1]


async def test_a_message_of_another_generation_is_left_out_and_not_tracked(
    worker: Worker, stream: Stream
) -> None:
    stream.receives(message(3, GENERATION - 1), message(0), message(4, GENERATION - 1), message(1))
    assert await offsets(batches_of(stream)) == [0, 1]
    assert worker.tracked == worker.seen == [0, 1]


async def test_a_batch_of_another_generation_is_none(worker: Worker, stream: Stream) -> None:
    found = batches_of(stream)
    stream.receives(message(3, GENERATION - 1), message(4, GENERATION - 1))
    next_batch = asyncio.ensure_future(offsets(found))
    while not stream.queue.empty():
        await asyncio.sleep(0)
    stream.receives(message(0))
    assert await next_batch == [0]


async def test_nothing_is_taken_during_a_rebalance(worker: Worker, stream: Stream) -> None:
    found = batches_of(stream)
    stream.receives(message(0))
    worker.flow_control.suspend()
    next_batch = asyncio.ensure_future(offsets(found))
    while not stream.queue.empty():
        await asyncio.sleep(0)
    worker.flow_control.resume()
    stream.receives(message(1))
    assert await next_batch == [1]
    assert worker.tracked == [1]


async def test_what_is_tracked_already_is_tracked_once(worker: Worker, stream: Stream) -> None:
    shared = message(0)
    shared.message.tracked = True
    stream.receives(shared, message(1))
    assert await offsets(batches_of(stream)) == [0, 1]
    assert worker.tracked == [1]
    assert worker.seen == [0, 1]


async def test_a_worker_that_stops_ends_what_waits(worker: Worker, stream: Stream) -> None:
    waiting = asyncio.ensure_future(_all(batches_of(stream)))
    while not stream.is_started:
        await asyncio.sleep(0)
    await stream.stops()
    assert await waiting == []


async def test_a_worker_that_stops_during_a_batch_takes_no_other(
    worker: Worker, stream: Stream
) -> None:
    stream.receives(message(0))
    found = batches_of(stream)
    assert await offsets(found) == [0]
    stream.receives(message(1))
    await stream.stops()
    assert await _all(found) == []
    assert worker.tracked == [0]


async def _all(found: AsyncIterator[list[Any]]) -> list[list[Any]]:
    return [batch async for batch in found]
