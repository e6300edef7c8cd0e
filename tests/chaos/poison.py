"""Messages that should not be there: ones no handler can process, and duplicates."""

import random
from uuid import UUID

from aiokafka import AIOKafkaProducer

from app.db.pools import Database
from app.operations.intervention import Actor, discard
from app.topics import OrderCreated
from tests.acceptance.broker import stray
from tests.chaos.deployment import Deployment
from tests.chaos.messages import handlers, produce, read_latest

COPIES = 60
"""How many of the latest events of each partition are sent again."""


async def plant_poison(deployment: Deployment, dice: random.Random) -> None:
    """Send bytes that are no event and an event of no order to each topic that a handler reads.

    Their keys belong to no order, so that no order waits behind them. The handler of
    `order.created` does not look up the order: for it, an event of no order is valid.
    """
    async with AIOKafkaProducer(bootstrap_servers=deployment.brokers, acks="all") as producer:
        for topic in handlers():
            order_id = UUID(int=dice.getrandbits(128), version=4)
            deployment.poison.add(order_id)
            unread = [b"\xff", b"{}"]
            unknown = stray(orderId=str(order_id))
            for value in unread if topic == OrderCreated.topic_name else [*unread, unknown]:
                await producer.send_and_wait(topic, value, str(order_id).encode())


async def duplicate_events(deployment: Deployment, dice: random.Random) -> None:
    """Send copies of the latest events, shuffled."""
    messages = await read_latest(deployment.brokers, COPIES)
    dice.shuffle(messages)
    await produce(deployment.brokers, messages)


async def discard_poison(deployment: Deployment) -> None:
    """Discard the planted messages as an operator does."""
    database = Database({"dsn": deployment.database}, 1)
    await database.open()
    try:
        async with database.connection() as connection:
            rows = await connection.fetch(PLANTED, list(deployment.poison))
        for row in rows:
            await discard(database, row["id"], Actor("chaos", "it was planted", "chaos"))
    finally:
        await database.close()


PLANTED = "select id from parked_messages where resolved_at is null and order_id = any($1)"
