"""Watch Kafka for the events that complete orders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from aiokafka import AIOKafkaConsumer, TopicPartition

COMPLETED = "order.completed"


class Endings:
    """Tells a waiting customer that its order has completed, and when.

    It reads one message per order, and only its key: polling the worker would add load.
    """

    def __init__(self) -> None:
        self._awaited: dict[bytes, asyncio.Future[float]] = {}
        self.completed_at: list[float] = []
        """The time (`time.monotonic`) of each completion, in order of arrival."""

    def expect(self, order_id: bytes) -> None:
        """Record the end of this order, which is about to be paid."""
        self._awaited[order_id] = asyncio.get_running_loop().create_future()

    async def of(self, order_id: bytes) -> float:
        """Wait for an expected order's completion; return its time (`time.monotonic`)."""
        arrived = await self._awaited[order_id]
        del self._awaited[order_id]
        return arrived

    def forget(self, order_id: bytes) -> None:
        """Stop expecting the order."""
        self._awaited.pop(order_id, None)

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Read until cancelled."""
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            arrived = monotonic()
            for messages in batches.values():
                for message in messages:
                    self._note(message.key, arrived)

    def _note(self, order_id: bytes, arrived: float) -> None:
        self.completed_at.append(arrived)
        ending = self._awaited.get(order_id)
        if ending is not None and not ending.done():
            ending.set_result(arrived)


@asynccontextmanager
async def watching(brokers: str, partitions: int) -> AsyncIterator[Endings]:
    """Watch all completions from now on."""
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, max_partition_fetch_bytes=4 * 1024**2)
    tps = [TopicPartition(COMPLETED, number) for number in range(partitions)]
    await consumer.start()
    try:
        consumer.assign(tps)
        await consumer.seek_to_end(*tps)
        # Wait for the positions, or messages sent before they are known would be missed.
        for tp in tps:
            await consumer.position(tp)
        endings = Endings()
        reading = asyncio.create_task(endings.read(consumer))
        try:
            yield endings
        finally:
            reading.cancel()
    finally:
        await consumer.stop()
