"""Agents on one consumer of all topics; each handles its batches separately."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.bare.hops import Hop
from bench.bare.shapes import Message

BATCH = 500
COMMIT_SECONDS = 1.0
MARKS, REPLAYS = "orders-handled-changelog", "orders-replays-changelog"


@dataclass
class Agent:
    """A handler: its topic, its transaction (None if it only remembers), and what has arrived."""

    topic: str
    name: str
    hop: Hop | None
    arrived: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    async def batch(self) -> list[Any]:
        """Wait for at least one message; return what has arrived."""
        messages = [await self.arrived.get()]
        while not self.arrived.empty() and len(messages) < BATCH:
            messages.append(self.arrived.get_nowait())
        return messages


class Agents:
    """All handlers with one consumer, and the producer of the changelogs."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        agents: Sequence[Agent],
        after_commit: Callable[[Agent, list[Message]], None],
    ) -> None:
        self._pool = pool
        self._consumer = consumer
        self._producer = producer
        self._agents = {agent.topic: agent for agent in agents}
        self._after_commit = after_commit
        self._done: dict[TopicPartition, int] = {}

    async def run(self) -> None:
        """Read, handle and commit until cancelled."""
        async with asyncio.TaskGroup() as group:
            for agent in self._agents.values():
                group.create_task(self._handle(agent))
            group.create_task(self._commit())
            group.create_task(self._read())

    async def _read(self) -> None:
        while True:
            batches = await self._consumer.getmany(timeout_ms=1000, max_records=1000)
            for tp, messages in batches.items():
                for message in messages:
                    self._agents[tp.topic].arrived.put_nowait(message)

    async def _handle(self, agent: Agent) -> None:
        while True:
            messages = await agent.batch()
            values = [orjson.loads(message.value) for message in messages]
            if agent.hop:
                async with self._pool.acquire() as connection:
                    await agent.hop(connection, values)
            self._after_commit(agent, values)
            for message, value in zip(messages, values, strict=True):
                await self._mark(agent, message, value)
                tp = TopicPartition(message.topic, message.partition)
                self._done[tp] = message.offset + 1

    async def _mark(self, agent: Agent, message: Any, value: Message) -> None:
        if agent.hop is None:
            key = orjson.dumps(f"{value['userId']}/{value['idempotencyKey']}")
            names = ("fingerprint", "keyExpiresAt", "answer")
            kept = orjson.dumps({name: value[name] for name in names})
            await self._producer.send(REPLAYS, kept, key, partition=message.partition)
        key = orjson.dumps(f"{agent.name}/{value['eventId']}")
        await self._producer.send(MARKS, b"1", key, partition=message.partition)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            if self._done:
                done, self._done = self._done, {}
                await self._consumer.commit(done)
