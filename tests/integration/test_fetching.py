"""What is fetched is delivered, in sessions and around rebalances, and asked for sparingly."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11
from faust.types import TP

from app import app
from app.kafka.fetching import LAST_EPOCH, FetchSessions, Session

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


async def put(producer: AIOKafkaProducer, place: TopicPartition, *values: str) -> None:
    for value in values:
        await producer.send_and_wait(place.topic, value.encode(), partition=place.partition)


def named(request: Any) -> list[int]:
    """Return the partitions that a fetch names."""
    return sorted(place[0] for _, places in request.topics for place in places)


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
    places = [TP(*place) for place in reader.partitions]
    loop, nobody = asyncio.get_running_loop(), cast(Any, lambda *_: None)
    consumer: Any = app.transport.Consumer(app.transport, nobody, nobody, nobody, loop=loop)
    consumer._thread._consumer = reader.consumer
    consumer.resume_partitions(places)
    consumer.resume_flow()
    under_way = asyncio.create_task(anext(consumer.getmany(timeout=20), None))
    await reader.begins_to_wait()
    consumer.stop_flow()
    consumer.pause_partitions(places)
    await put(producer, reader.partitions[0], "a")
    assert await under_way is None
    consumer.resume_partitions(places)
    consumer.resume_flow()
    place, message = await anext(consumer.getmany(timeout=20))
    assert (place, message.value) == (places[0], b"a")
