"""A message that dead_letter itself can hardly hold; it comes after all other tests.

A worker that cannot put it aside stands still, and would fail whatever came next.
"""

import asyncio

from tests.acceptance.broker import Broker
from tests.acceptance.client import eventually
from tests.acceptance.customer import Admin, Customer

ALMOST_A_MEGABYTE = b"x" * 950_000


async def test_a_bad_message_as_large_as_the_broker_takes_holds_nothing_up(
    broker: Broker, customer: Customer, admin: Admin
) -> None:
    sent = await broker.send("order.paid", value=ALMOST_A_MEGABYTE)
    products = [await admin.adds() for _ in range(8)]
    await asyncio.gather(*[customer.buys(product) for product in products])
    origin = ("order.paid", sent.partition, sent.offset)
    await eventually(lambda: broker.dead_letters([origin]), bool)
