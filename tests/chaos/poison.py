"""Messages that should not be there: ones no handler can process, and duplicates."""

import random
from uuid import UUID, uuid4

import orjson
from aiokafka import AIOKafkaProducer

from app.db import Database
from app.operations.intervention import Actor, discard
from app.topics import OrderCreated
from tests.chaos.messages import handlers, produce, read_latest
from tests.chaos.shop import Shop

COPIES = 60
"""How many of the latest events of each partition are sent again."""


async def plant_poison(shop: Shop, dice: random.Random) -> None:
    """Send bytes that are no event and an event of no order to each topic that a handler reads.

    Their keys belong to no order, so that no order waits behind them. The handler of
    `order.created` does not look up the order: for it, an event of no order is valid.
    """
    async with AIOKafkaProducer(bootstrap_servers=shop.brokers, acks="all") as producer:
        for topic in handlers():
            order_id = UUID(int=dice.getrandbits(128), version=4)
            shop.poison.add(order_id)
            unread = [b"\xff", b"{}"]
            unknown = [] if topic == OrderCreated.topic_name else [_of_no_order(order_id)]
            for value in unread + unknown:
                await producer.send_and_wait(topic, value, str(order_id).encode())


def _of_no_order(order_id: UUID) -> bytes:
    """Return an event with the fields of all topics, of an order that does not exist."""
    event = {"eventId": str(uuid4()), "orderId": str(order_id), "sequence": 1}
    event |= {"occurredAt": "2026-01-01T00:00:00.000000Z", "requestId": "chaos"}
    event |= {"paymentId": str(uuid4()), "provider": "internal", "amount": 1, "reason": "none"}
    event |= {"currency": "PLN", "userId": str(uuid4()), "totalAmount": 1, "items": []}
    return orjson.dumps({**event, "shortages": [], "expectedAmount": 1, "createdAt": ""})


async def duplicate_events(shop: Shop, dice: random.Random) -> None:
    """Send copies of the latest events, shuffled."""
    messages = await read_latest(shop.brokers, COPIES)
    dice.shuffle(messages)
    await produce(shop.brokers, messages)


async def discard_poison(shop: Shop) -> None:
    """Discard the planted messages as an operator does."""
    database = Database({"dsn": shop.database}, 1)
    await database.open()
    try:
        async with database.connection() as connection:
            rows = await connection.fetch(PLANTED, list(shop.poison))
        for row in rows:
            await discard(database, row["id"], Actor("chaos", "it was planted", "chaos"))
    finally:
        await database.close()


PLANTED = "select id from parked_messages where resolved_at is null and order_id = any($1)"
