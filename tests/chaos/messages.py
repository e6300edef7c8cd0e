"""Read what is in Kafka, read the consumer lag, produce messages again, and empty the group."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from importlib import import_module

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest

from app import AUTODISCOVER, app
from app.topics import topic_names
from tests.acceptance.broker import to_the_end

GROUP = app.conf.id


def handlers() -> Mapping[str, list[str]]:
    """Return the handlers' names by topic."""
    for module in AUTODISCOVER:
        if module.startswith("agents."):
            import_module(module)
    found = defaultdict(list)
    for name, agent in app.agents.items():
        for topic in agent.channel.topics:
            found[topic].append(name)
    return found


async def read_all(brokers: str) -> list[ConsumerRecord]:
    """Return every message of every topic, in order within each partition."""
    async with AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest") as reader:
        reader.assign(_partitions(topic_names()))
        return await to_the_end(reader)


async def read_latest(brokers: str, most: int) -> list[ConsumerRecord]:
    """Return the latest messages of every handled topic, at most `most` of each partition."""
    async with AIOKafkaConsumer(bootstrap_servers=brokers) as reader:
        partitions = _partitions(handlers())
        reader.assign(partitions)
        for tp, end in (await reader.end_offsets(partitions)).items():
            reader.seek(tp, max(0, end - most))
        return await to_the_end(reader)


async def lag(brokers: str) -> Counter[str]:
    """Return the consumer lag by topic; topics without lag are left out."""
    settings = {"group_id": GROUP, "enable_auto_commit": False}
    async with AIOKafkaConsumer(bootstrap_servers=brokers, **settings) as reader:
        partitions = _partitions(handlers())
        reader.assign(partitions)
        left: Counter[str] = Counter()
        for tp, end in (await reader.end_offsets(partitions)).items():
            left[tp.topic] += end - (await reader.committed(tp) or 0)
        return +left


async def produce(brokers: str, messages: Iterable[ConsumerRecord]) -> None:
    """Send copies of the messages, and wait until Kafka has acknowledged them."""
    async with AIOKafkaProducer(bootstrap_servers=brokers, acks="all") as producer:
        for one in messages:
            await producer.send_and_wait(one.topic, one.value, one.key, headers=[*one.headers])


def _partitions(topics: Iterable[str]) -> list[TopicPartition]:
    count = app.conf.topic_partitions
    return [TopicPartition(topic, number) for topic in topics for number in range(count)]


async def forget_the_dead(brokers: str) -> None:
    """Remove the group's members at once; the broker does so 10 s after it last heard of them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        node = await admin.find_coordinator(GROUP)
        for answer in await admin.describe_consumer_groups([GROUP]):
            for _, _, _, _, _, members, *_ in answer.groups:
                for member_id, *_ in members:
                    await admin._send_request(LeaveGroupRequest(GROUP, member_id), node)
    finally:
        await admin.close()
