"""aiokafka's producers: their limits, how the relay sends an event, and how to stop one."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError
from aiokafka.partitioner import murmur2

from app.resilience.timeouts import move_on_after

MAX_MESSAGE = 2 * 1024**2
"""The largest message, in bytes: a dead letter holds one of up to 1 MiB in base64."""
MAX_BATCH = 64 * 1024
"""Bytes of one producer batch for one partition. With aiokafka's default of 16 KiB, events that
commit together would take several requests. A topic whose max.message.bytes is smaller refuses the
whole batch, valid events included."""
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)
"""Errors of a message that is larger than the producer or its topic allows."""
LEARN_SECONDS = 6.0
"""How long a producer may take to learn the leaders: long enough to ask three brokers."""
STOP_SECONDS = 5.0
"""How long a producer may take to stop, and then each of its parts."""

Sent = asyncio.Future[Any]
"""A future for the broker's acknowledgement."""
Send = Callable[[], Coroutine[Any, Any, Sent]]
"""The producer's `send`, with its arguments."""


@lru_cache(maxsize=16_384)
def _hash(order_id: UUID) -> int:
    return int(murmur2(str(order_id).encode())) & 0x7FFFFFFF


def choose_partition(order_id: UUID, count: int) -> int:
    """Return the one of `count` partitions that Kafka's default partitioner chooses."""
    return _hash(order_id) % count


def partition_of(producer: AIOKafkaProducer, topic: str, order_id: UUID) -> int | None:
    """Return the partition that an order's events go to; None for an unknown topic."""
    partitions = cast(Any, producer).client.cluster.partitions_for_topic(topic)
    return choose_partition(order_id, len(partitions)) if partitions else None


def begin_send(send: Send) -> Sent:
    """Send; return a future for the acknowledgement. Raises an error that needed no waiting.

    The producer seldom has to wait (for metadata, or for room in a batch) before it takes what it
    is given. So its coroutine is begun without a task: until its first wait it has taken nothing.
    """
    attempt = send()
    try:
        attempt.send(None)
    except StopIteration as taken:
        return cast(Sent, taken.value)
    attempt.close()
    return asyncio.create_task(_wait(send))


async def _wait(send: Send) -> Any:
    return await (await send())


async def learn_leaders(producer: AIOKafkaProducer) -> None:
    """Ask which brokers lead the partitions, for a few seconds at most.

    A producer that has only waited may take a broker for their leader that stands still since.
    """
    async with move_on_after(LEARN_SECONDS):
        await cast(Any, producer).client.force_metadata_update()


def has_ended(producer: AIOKafkaProducer) -> bool:
    """Return whether one of the producer's own tasks has ended: nothing more is sent then."""
    inside = cast(Any, producer)
    return bool(inside._sender.sender_task.done() or inside.client._sync_task.done())


async def stop(producer: AIOKafkaProducer) -> None:
    """Flush and stop the producer; after STOP_SECONDS, end each of its parts."""
    try:
        await asyncio.wait_for(producer.stop(), STOP_SECONDS)
    except TimeoutError:
        # stop() flushes first, and never returns if the producer's metadata task has died. Parts
        # that it has not closed would keep running, and sending.
        async with move_on_after(STOP_SECONDS):
            await cast(Any, producer)._sender.close()
        client = cast(Any, producer.client)
        for connection in client._conns.values():
            connection.close()
        # Otherwise close() would await ends of connections that the timeout has cancelled.
        client._conns.clear()
        async with move_on_after(STOP_SECONDS):
            await client.close()
