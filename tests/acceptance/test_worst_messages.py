"""A message that `dead_letter` itself can hardly hold; this file runs after all other tests.

A worker that cannot dead-letter it stops, which would fail all tests after it.
"""

import asyncio

from tests.acceptance.broker import Broker
from tests.acceptance.client import eventually
from tests.acceptance.customer import Admin, Customer

ALMOST_A_MEGABYTE = b"x" * 950_000


async def test_a_bad_message_as_large_as_the_broker_takes_holds_nothing_up(
    broker: Broker, customer: Customer, admin: Admin
) -> None:
    large = [{"value": ALMOST_A_MEGABYTE}, {"key": ALMOST_A_MEGABYTE, "value": b"garbage"}]
    sent = [await broker.send("order.paid", **message) for message in large]
    products = [await admin.adds() for _ in range(8)]
    await asyncio.gather(*[customer.buys(product) for product in products])
    origins = {("order.paid", place.partition, place.offset) for place in sent}
    await eventually(lambda: broker.dead_letters(origins), lambda found: len(found) == 2)
