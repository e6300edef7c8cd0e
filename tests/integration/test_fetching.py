"""What is fetched is delivered, in sessions and around rebalances, and asked for sparingly."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11
from faust.types import TP

from app import app
from app.kafka.decoding import EventSchema
from app.kafka.fetching import LAST_EPOCH, FetchSessions, Session
from app.topics import OrderPaid

PARTITIONS = 4


class Reader:
    """A consumer of its own topic, and the fetches it sent."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self.consumer = consumer
        self.partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        self.asked: list[Any] = []
        self.lie: Callable[[Session], Session] | None = None
        """Changes the session of the next fetch."""
        send = consumer._client.send

        async def note(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, FetchRequest):
                if self.lie:
                    cast(Any, request).session = self.lie(cast(Any, request).session)
                    self.lie = None
                self.asked.append(request.build(FetchRequest_v11))
            return await send(node_id, request, **options)

        consumer._client.send = note
        self.sessions = FetchSessions(consumer._client)

    async def reads(self, *values: str) -> None:
        """Wait until exactly these values have arrived."""
        found: list[str] = []
        async with asyncio.timeout(20):
            while len(found) < len(values):
                for messages in (await self.consumer.getmany(timeout_ms=200)).values():
                    found += [message.value.decode() for message in messages]
        assert sorted(found) == sorted(values)

    async def begins_to_wait(self) -> None:
        """Wait until somebody waits for messages."""
        async with asyncio.timeout(20):
            while not self.consumer._fetcher._fetch_waiters:
                await asyncio.sleep(0)

    async def rests(self) -> None:
        """Wait until a fetch without new partitions has been sent."""
        async with asyncio.timeout(20):
            asked = len(self.asked)
            while len(self.asked) < asked + 2:
                await self.consumer.getmany(timeout_ms=50)


@pytest.fixture
async def producer(environment: dict[str, str]) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=environment["KAFKA_BROKERS"]) as producer:
        yield producer


@asynccontextmanager
async def reading(brokers: str, configuration: dict[str, str]) -> AsyncIterator[Reader]:
    """A reader of a new topic with that configuration."""
    topic = f"sessions.{uuid4()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=configuration)])
    await admin.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, fetch_max_wait_ms=50)
    reader = Reader(consumer, topic)
    consumer.assign(reader.partitions)
    async with consumer:
        await consumer.seek_to_beginning(*reader.partitions)
        yield reader


@pytest.fixture
async def reader(environment: dict[str, str]) -> AsyncIterator[Reader]:
    async with reading(environment["KAFKA_BROKERS"], {}) as reader:
        yield reader


async def put(producer: AIOKafkaProducer, tp: TopicPartition, *values: str) -> None:
    for value in values:
        await producer.send_and_wait(tp.topic, value.encode(), partition=tp.partition)


def named(request: Any) -> list[int]:
    """Return the partitions that a fetch names."""
    return sorted(partition[0] for _, partitions in request.topics for partition in partitions)


def forgotten(request: Any) -> list[int]:
    return sorted(number for _, numbers in request.forgotten_topics_data for number in numbers)


async def test_a_fetch_names_what_has_changed_and_nothing_is_missed(
    producer: AIOKafkaProducer, reader: Reader
) -> None:
    first, second, *_ = reader.partitions
    await reader.rests()
    assert named(reader.asked[-1]) == []
    await put(producer, first, "a", "b")
    await reader.reads("a", "b")
    await put(producer, second, "c")
    await reader.reads("c")
    await reader.rests()
    assert named(reader.asked[0]) == [0, 1, 2, 3]
    epochs = [request.session_epoch for request in reader.asked]
    assert epochs == list(range(len(epochs)))
    later = [number for request in reader.asked[1:] for number in named(request)]
    assert set(later) <= {0, 1} and len(later) <= 3


async def test_what_is_paused_is_forgotten_and_read_on_later(
    producer: AIOKafkaProducer, reader: Reader
) -> None:
    first, second, *_ = reader.partitions
    await put(producer, first, "a")
    await reader.reads("a")
    reader.consumer.pause(first)
    await reader.rests()
    await put(producer, first, "b")
    await put(producer, second, "c")
    await reader.reads("c")
    assert [0] in map(forgotten, reader.asked)
    reader.consumer.resume(first)
    await reader.reads("b")


async def test_what_is_sought_is_read_again(producer: AIOKafkaProducer, reader: Reader) -> None:
    first, *_ = reader.partitions
    await put(producer, first, "a", "b")
    await reader.reads("a", "b")
    reader.consumer.seek(first, 1)
    await reader.reads("b")


@pytest.mark.parametrize(
    "lie",
    [
        lambda session: session._replace(id=12345),
        lambda session: session._replace(epoch=session.epoch + 5),
    ],
    ids=["unknown", "out of step"],
)
async def test_a_session_that_the_broker_does_not_know_is_begun_anew(
    producer: AIOKafkaProducer, reader: Reader, lie: Callable[[Session], Session]
) -> None:
    first, *_ = reader.partitions
    await reader.rests()
    reader.lie = lie
    await reader.rests()
    await put(producer, first, "a")
    await reader.reads("a")
    await put(producer, first, "b")
    await reader.reads("b")
    assert sum(request.session_epoch == 0 for request in reader.asked) == 2
    assert named(reader.asked[-1]) in ([], [0])


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_what_the_broker_compresses_is_read(
    environment: dict[str, str], producer: AIOKafkaProducer, codec: str
) -> None:
    """Producers here compress nothing; a topic, or a broker's default, may have it done."""
    value = "an event" * 1000
    async with reading(environment["KAFKA_BROKERS"], {"compression.type": codec}) as reader:
        await put(producer, reader.partitions[0], value, value)
        await reader.reads(value, value)


def test_epochs_begin_again_at_one() -> None:
    assert Session(7, LAST_EPOCH).after(7, {}) == Session(7, 1)
    assert Session(7, 3).after(0, {}) == Session()


async def test_what_is_fetched_while_the_flow_stands_still_comes_once_it_is_resumed(
    producer: AIOKafkaProducer, reader: Reader
) -> None:
    """As in a rebalance: aiokafka reads all partitions once the set that Faust gave it is empty."""
    tps = [TP(*tp) for tp in reader.partitions]
    loop, nobody = asyncio.get_running_loop(), cast(Any, lambda *_: None)
    consumer: Any = app.transport.Consumer(app.transport, nobody, nobody, nobody, loop=loop)
    consumer._thread._consumer = reader.consumer
    consumer.resume_partitions(tps)
    consumer.resume_flow()
    under_way = asyncio.create_task(anext(consumer.getmany(timeout=20), None))
    await reader.begins_to_wait()
    consumer.stop_flow()
    consumer.pause_partitions(tps)
    await put(producer, reader.partitions[0], "a")
    assert await under_way is None
    consumer.resume_partitions(tps)
    consumer.resume_flow()
    tp, message = await anext(consumer.getmany(timeout=20))
    assert (tp, message.value) == (tps[0], b"a")


ROOM, MESSAGES = 10, 30
"""How many messages a stream's queue holds, and how many come to each partition."""


class Delivery:
    """A worker's consumer, which gets at most four messages at once, and streams of its own."""

    def __init__(self, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tps = {TP(*tp) for tp in reader.partitions}
        reader.consumer._max_poll_records = 4
        loop = asyncio.get_running_loop()
        consumer: Any = app.transport.Consumer(
            app.transport, app.topics.on_message, _nothing, _nothing, loop=loop
        )
        consumer._thread._consumer = reader.consumer
        monkeypatch.setattr(app, "_consumer", consumer)
        monkeypatch.setattr(app, "_producer", app._new_producer())
        self.consumer, self._set = consumer, monkeypatch.setitem

    def stream(self, *tps: TP) -> asyncio.Queue[Any]:
        """Return the queue of a new stream of these partitions."""
        schema = EventSchema(value_type=OrderPaid, key_serializer="raw", allow_empty=False)
        topic: Any = app.topic(tps[0].topic, schema=schema)
        topic._queue = app.FlowControlQueue(ROOM, clear_on_resume=True)
        conductor: Any = app.topics
        for tp in tps:
            handler = conductor._build_handler(tp, {topic})
            self._set(conductor._tp_to_callback, tp, handler)
        return cast("asyncio.Queue[Any]", topic.queue)

    def _go_on(self) -> None:
        self.consumer.resume_partitions(self.tps)
        app.flow_control.resume()
        self.consumer.resume_flow()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Deliver what is fetched, as Faust's fetcher does."""
        self._go_on()
        fetcher = SimpleNamespace(_stopped=asyncio.Event())
        draining = asyncio.create_task(self.consumer._drain_messages(fetcher))
        try:
            yield
        finally:
            app.flow_control.suspend()
            draining.cancel()
            with suppress(asyncio.CancelledError):
                await draining

    async def holds_back(self, *tps: TP) -> None:
        """Wait until nothing of these partitions is fetched."""
        while not set(tps) <= self.consumer._buffered_partitions:
            await asyncio.sleep(0)

    async def is_rebalanced(self) -> None:
        """Read the same partitions from their beginning."""
        await self.consumer.on_partitions_assigned(self.tps)
        for tp in self.tps:
            await self.consumer.seek(tp, 0)
        self._go_on()


async def _nothing(*_: Any) -> None:
    """Do what Faust does when partitions are assigned or revoked."""


@pytest.fixture
async def worker(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> Delivery:
    return Delivery(reader, monkeypatch)


@pytest.mark.parametrize("is_rebalanced", [False, True])
async def test_a_stream_that_stands_still_holds_up_its_own_topic_only(
    producer: AIOKafkaProducer, reader: Reader, worker: Delivery, is_rebalanced: bool
) -> None:
    """It gets every message once, in order, when it goes on."""
    first, second, other, _ = map(TP._make, reader.partitions)
    stuck, lively = worker.stream(first, second), worker.stream(other)
    values = [str(number) for number in range(MESSAGES)]
    async with worker.reading(), asyncio.timeout(30):
        await put(producer, first, *values)
        await put(producer, second, *values)
        await worker.holds_back(first, second)
        await put(producer, other, *values)
        assert [(await lively.get()).message.value.decode() for _ in values] == values
        if is_rebalanced:
            await worker.is_rebalanced()
        events = [await stuck.get() for _ in range(2 * MESSAGES)]
        for tp in (first, second):
            found = [event.message for event in events if event.message.tp == tp]
            assert [message.offset for message in found] == list(range(MESSAGES))
            assert [message.value.decode() for message in found] == values
        await put(producer, second, "and then")
        assert (await stuck.get()).message.value == b"and then"
    assert stuck.empty() and not any(worker.consumer._gap.values())
