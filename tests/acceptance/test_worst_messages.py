"""Messages that can hardly be put aside, or read; this file runs after all other tests.

A worker that cannot dead-letter or read one stops, which would fail all tests after it.
"""

import asyncio

from tests.acceptance.broker import Broker, headers_of
from tests.acceptance.client import eventually
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.records import Records
from tests.misnamed import NAME

ALMOST_A_MEGABYTE = b"x" * 950_000


async def test_a_bad_message_as_large_as_the_broker_takes_holds_nothing_up(
    broker: Broker, customer: Customer, admin: Admin
) -> None:
    large = [{"value": ALMOST_A_MEGABYTE}, {"key": ALMOST_A_MEGABYTE, "value": b"garbage"}]
    sent = [await broker.send("order.paid", **message) for message in large]
    products = [await admin.adds() for _ in range(8)]
    await asyncio.gather(*[customer.buys(product) for product in products])
    origins = {("order.paid", one.partition, one.offset) for one in sent}
    await eventually(lambda: broker.dead_letters(origins), lambda found: len(found) == 2)


async def test_a_message_whose_header_is_misnamed_is_put_aside_and_holds_nothing_up(
    broker: Broker, customer: Customer, admin: Admin, records: Records
) -> None:
    order = await customer.buys(await admin.adds())
    message = {"key": order["id"].encode(), "value": b"garbage"}
    sent = [
        await broker.send_misnamed("order.paid", partition, **message)
        for partition in await broker.partitions("order.paid")
    ]
    await asyncio.gather(*[customer.buys(await admin.adds()) for _ in range(8)])
    origins = {("order.paid", one.partition, one.offset) for one in sent}
    letters = await eventually(
        lambda: broker.dead_letters(origins), lambda found: len(found) == len(sent)
    )
    assert all(letter["headers"] == {NAME: "1"} for letter in letters)
    assert {tuple(ref) for _, *ref in await records.parked(order)} == origins


async def test_a_message_that_dead_letter_has_no_room_for_is_put_aside_without_its_bytes(
    broker: Broker, customer: Customer, admin: Admin, records: Records
) -> None:
    """As where the topic was there before `migrate`, with the limit that is usual in Kafka."""
    order = await customer.buys(await admin.adds())
    await broker.limit("dead_letter", 10_000)
    sent = await broker.send(
        "order.paid",
        key=order["id"].encode(),
        value=b"x" * 20_000,
        headers=[("x-request-id", b"too large")],
    )
    origin = ("order.paid", sent.partition, sent.offset)
    (letter,) = await eventually(
        lambda: broker.dead_letters([origin]), lambda found: len(found) == 1
    )
    await broker.limit("dead_letter", 2 * 1024**2)
    told = [headers_of(one)["x-request-id"] for one in await broker.read(["dead_letter"])]
    assert told.count("too large") == 1
    assert (letter["key"], letter["value"], letter["headers"]) == (None, None, {})
    assert letter["error"].endswith("(left out for its size; it stands at its place)")
    await eventually(
        lambda: records.parked(order), lambda found: [tuple(p) for _, *p in found] == [origin]
    )
    await customer.buys(await admin.adds())
