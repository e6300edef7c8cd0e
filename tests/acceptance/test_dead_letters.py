"""A message that cannot be handled goes to `dead_letter`, and holds nothing up."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.broker import Broker, headers_of, origin_of, stray
from tests.acceptance.client import eventually
from tests.acceptance.conftest import Metric
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.records import Records

Origin = tuple[str, int, int]
Message = tuple[bytes | None, bytes | None]
NOT_UTF8 = b"\xff\xfe"


def bad_messages(topic: str) -> list[Message]:
    """Return keys and values that no handler of the topic can process."""
    shapes = [b"{}", b"[]", b"null", b"5", b'"text"', stray(sequence="two")]
    garbage = [b"", b"garbage", b"\xff\x00\xfe", b"[" * 10_000, None]
    ids = [stray(orderId="no-uuid"), stray(orderId=5), stray(orderId=None), stray(eventId="x")]
    unknown = [] if topic == "order.created" else [stray()]
    foreign = [b'{"__faust": %b}' % told for told in (b'{"ns": "x"}', b"{}", b"5", b"[]")]
    values = [*shapes, *garbage, *ids, *unknown, *foreign]
    return [*[(b"key", value) for value in values], (NOT_UTF8, b"garbage"), (None, b"garbage")]


async def spoil(broker: Broker, topic: str) -> dict[Origin, Message]:
    """Send all bad messages to every partition of the topic; return them by origin."""
    sent: dict[Origin, Message] = {}
    for partition in await broker.partitions(topic):
        for key, value in bad_messages(topic):
            put = await broker.send(topic, partition=partition, key=key, value=value)
            sent[topic, partition, put.offset] = (key, value)
    return sent


def decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


async def assert_buried(broker: Broker, sent: dict[Origin, Message]) -> None:
    """Assert that each message is in `dead_letter` unchanged, with origin, error and attempts."""
    letters = await eventually(
        lambda: broker.dead_letters(sent), lambda found: sent.keys() <= set(map(origin_of, found))
    )
    for letter in letters:
        assert (decoded(letter["key"]), decoded(letter["value"])) == sent[origin_of(letter)]
        assert letter["error"]
        assert letter["attempts"] >= 1


class Buyer:
    """Takes orders through each of the courses an order can take."""

    def __init__(self, customer: Customer, rival: Customer, admin: Admin, records: Records) -> None:
        self._customer, self._rival = customer, rival
        self._admin, self._records = admin, records

    async def completes(self) -> dict[str, Any]:
        """Return an order that was paid and completed."""
        return await self._customer.buys(await self._admin.adds())

    async def pays_wrongly(self) -> dict[str, Any]:
        """Return an order that was paid with a wrong amount."""
        order = await self._customer.placed(await self._admin.adds())
        await self._customer.paid(order, 1)
        return await self._customer.wait_until(order, "CANCELLED")

    async def comes_late(self) -> dict[str, Any]:
        """Return an order that was paid, found nothing in stock, and was refunded."""
        last = await self._admin.adds(quantity=1)
        order = await self._customer.placed(last)
        await self._rival.buys(last)
        await self._customer.paid(order)
        await eventually(lambda: self._records.payments(order), lambda found: found == ["REFUNDED"])
        return await self._customer.wait_until(order, "CANCELLED")


@pytest.fixture
def buyer(customer: Customer, stranger: Customer, admin: Admin, records: Records) -> Buyer:
    """A customer who orders after the bad messages."""
    return Buyer(customer, stranger, admin, records)


WAYS: dict[str, Callable[[Buyer], Awaitable[dict[str, Any]]]] = {
    "order.created": Buyer.completes,
    "order.payment_requested": Buyer.completes,
    "payment.succeeded": Buyer.completes,
    "payment.failed": Buyer.pays_wrongly,
    "payment.refund_requested": Buyer.comes_late,
    "order.paid": Buyer.completes,
    "order.completed": Buyer.completes,
    "order.cancelled": Buyer.comes_late,
    "inventory.reserved": Buyer.completes,
    "inventory.rejected": Buyer.comes_late,
}
"""By consumed topic: the course on which an order passes it."""


@pytest.mark.parametrize("topic", WAYS)
async def test_bad_messages_are_put_aside_and_the_next_order_goes_its_way(
    broker: Broker,
    buyer: Buyer,
    logged: Callable[[str], Awaitable[list[str]]],
    topic: str,
) -> None:
    sent = await spoil(broker, topic)
    order = await WAYS[topic](buyer)
    end = order["status"].lower()
    assert len(await logged(f"Sending notification for {end} order {order['id']}")) == 1
    await assert_buried(broker, sent)


async def test_creations_are_remembered_after_bad_messages(
    broker: Broker, customer: Customer, product: dict[str, Any], metric: Metric
) -> None:
    async def from_table() -> float:
        await customer.place(product, key="after")
        return await metric("orders_idempotent_replays_total", source="table")

    await spoil(broker, "order.created")
    before = await from_table()
    await eventually(from_table, lambda now: now > before)


@pytest.mark.parametrize("field", ["requestId", "userId", "totalAmount"])
async def test_a_creation_with_null_for_what_it_must_tell_is_put_aside(
    broker: Broker, field: str
) -> None:
    value = stray(**{field: None})
    sent = await broker.send("order.created", key=b"key", value=value)
    await assert_buried(broker, {("order.created", sent.partition, sent.offset): (b"key", value)})


async def test_a_dead_letter_belongs_to_the_trace_of_its_message(broker: Broker) -> None:
    request_id = uuid4().hex
    sent = await broker.send(
        "order.paid", value=b"garbage", headers=[("x-request-id", request_id.encode())]
    )
    await assert_buried(broker, {("order.paid", sent.partition, sent.offset): (None, b"garbage")})
    found = [headers_of(letter) for letter in await broker.read(["dead_letter"])]
    [headers] = [each for each in found if each["x-request-id"] == request_id]
    assert headers["ce_type"] == headers["x-event-type"] == "dead_letter"
    assert headers["ce_subject"] == f"order.paid/{sent.partition}@{sent.offset}"
    assert headers["traceparent"].startswith(f"00-{request_id}-")


async def test_dead_letters_are_counted(broker: Broker, metric: Metric) -> None:
    before = await metric("orders_dead_letters_total")
    sent = await broker.send("order.paid", value=b"garbage")
    await assert_buried(broker, {("order.paid", sent.partition, sent.offset): (None, b"garbage")})
    await eventually(lambda: metric("orders_dead_letters_total"), lambda now: now == before + 1)


async def test_what_was_put_aside_is_found_by_its_order_and_every_handler(
    broker: Broker, customer: Customer, product: dict[str, Any], records: Records
) -> None:
    order = await customer.placed(product)
    sent = await broker.send("order.cancelled", key=order["id"].encode(), value=b"garbage")
    ref = ("order.cancelled", sent.partition, sent.offset)
    found = await eventually(lambda: records.parked(order), lambda found: len(found) >= 3)
    assert [where for _, *where in found] == [[*ref]] * 3
    assert {handler.split(".")[0] for handler, *_ in found} == {"notify", "payments", "stock"}
    letters = await broker.read(["dead_letter"])
    assert sum(letter.key == order["id"].encode() for letter in letters) == 3
