"""Read what is in Kafka, and send what should not be there."""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition

from tests.misnamed import Misnamed, builder

EVENT_TOPICS = (
    "order.created",
    "order.payment_requested",
    "order.checkout_requested",
    "payment.succeeded",
    "payment.failed",
    "payment.refund_requested",
    "payment.refunded",
    "order.paid",
    "order.completed",
    "order.cancelled",
    "inventory.reserved",
    "inventory.rejected",
    "order.intervened",
)


def stray(**changes: Any) -> bytes:
    """Return an event with the fields of all topics, of an order that was never placed."""
    whole = {
        "eventId": str(uuid4()),
        "orderId": str(uuid4()),
        "sequence": 2,
        "occurredAt": "2026-01-01T00:00:00.000000Z",
        "requestId": "stray",
        "paymentId": str(uuid4()),
        "userId": str(uuid4()),
        "provider": "internal",
        "amount": 499,
        "expectedAmount": 499,
        "totalAmount": 499,
        "currency": "PLN",
        "createdAt": "2026-01-01T00:00:00.000000Z",
        "reason": "x",
        "items": [],
        "shortages": [],
    }
    return orjson.dumps({**whole, **changes})


class Broker:
    """Reads topics without a consumer group, and writes to them past the outbox."""

    def __init__(self, brokers: str, producer: AIOKafkaProducer) -> None:
        self._brokers = brokers
        self._producer = producer

    async def read(self, topics: Iterable[str]) -> list[ConsumerRecord]:
        """Return all messages up to the end of the topics at the time of the call."""
        consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self._brokers,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        async with consumer:
            return await to_the_end(consumer)

    async def events_of(self, order: dict[str, Any]) -> list[ConsumerRecord]:
        """Return the order's events of all topics, in sequence."""
        key = order["id"].encode()
        events = [message for message in await self.read(EVENT_TOPICS) if message.key == key]
        return sorted(events, key=lambda message: value_of(message)["sequence"])

    async def dead_letters(self, origins: Iterable[TopicPartition]) -> list[dict[str, Any]]:
        """Return the dead letters whose message came from one of `origins`."""
        wanted = set(origins)
        letters = [value_of(message) for message in await self.read(["dead_letter"])]
        return [letter for letter in letters if origin_of(letter) in wanted]

    async def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic."""
        return sorted(await self._producer.partitions_for(topic))

    async def send(self, topic: str, **message: Any) -> RecordMetadata:
        """Send a message; return its partition and offset once the broker has it."""
        return await self._producer.send_and_wait(topic, **message)

    async def send_misnamed(self, topic: str, partition: int, **message: Any) -> RecordMetadata:
        """Send a message with a header whose name is not UTF-8."""
        batch = self._producer.create_batch()
        batch._builder = builder()
        batch.append(timestamp=None, **message, headers=[(Misnamed(), b"1")])
        return await (await self._producer.send_batch(batch, topic, partition=partition))

    async def limit(self, topic: str, size: int) -> None:
        """Limit the topic's messages to `size` bytes."""
        configs = {"max.message.bytes": str(size)}
        admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
        finally:
            await admin.close()

    async def send_again(self, message: ConsumerRecord) -> None:
        """Send a message a second time, as a crash between send and mark would."""
        copy = {"key": message.key, "value": message.value, "headers": list(message.headers)}
        await self.send(message.topic, partition=message.partition, **copy)


def value_of(message: ConsumerRecord) -> dict[str, Any]:
    """Return the message's JSON."""
    return dict(orjson.loads(message.value))


def headers_of(message: ConsumerRecord) -> dict[str, str]:
    """Return the message's headers as text."""
    return {name: value.decode() for name, value in message.headers}


def origin_of(letter: dict[str, Any]) -> tuple[str, int, int]:
    """Return where a dead letter's message came from: topic, partition, offset."""
    return letter["topic"], letter["partition"], letter["offset"]


async def to_the_end(consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
    """Read the assigned partitions from where they stand to their present ends."""
    ends = await consumer.end_offsets(list(consumer.assignment()))
    messages: list[ConsumerRecord] = []
    for partition, end in ends.items():
        while await consumer.position(partition) < end:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                messages += batch
    return messages
