"""What other systems read from Kafka."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka.structs import ConsumerRecord

from tests.acceptance.broker import EVENT_TOPICS, Broker, headers_of, value_of
from tests.acceptance.client import eventually
from tests.acceptance.customer import Customer
from tests.acceptance.records import Records

Product = dict[str, Any]

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
COMPLETED_FLOW = [
    "order.created",
    "order.payment_requested",
    "payment.succeeded",
    "order.paid",
    "inventory.reserved",
    "order.completed",
]
UNPAID_FLOW = ["order.created", "order.payment_requested", "payment.failed", "order.cancelled"]
REFUNDED_FLOW = [
    *COMPLETED_FLOW[:4],
    "inventory.rejected",
    "order.cancelled",
    "payment.refund_requested",
    "payment.refunded",
]


def flow(events: list[ConsumerRecord]) -> list[tuple[int, str]]:
    """Return sequence and topic of each event."""
    return [(value_of(event)["sequence"], event.topic) for event in events]


async def events_up_to(broker: Broker, order: dict[str, Any], last: str) -> list[ConsumerRecord]:
    """Return the order's events once there is one of the topic `last`."""
    return await eventually(
        lambda: broker.events_of(order), lambda events: last in [event.topic for event in events]
    )


@pytest.fixture(scope="module")
async def ids() -> tuple[str, str]:
    """The ids of the request that places the order, and of the one that pays it."""
    return f"place {uuid4()}", f"pay {uuid4()}"


@pytest.fixture(scope="module")
async def completed(
    new_customer: Any, admin: Any, broker: Broker, ids: tuple[str, str]
) -> list[ConsumerRecord]:
    """The events of an order that was paid, in sequence."""
    customer, product = new_customer(), await admin.adds()
    order = await customer.placed(product, 2, key="topics", request_id=ids[0])
    await customer.paid(order, request_id=ids[1])
    return await events_up_to(broker, order, "order.completed")


async def test_every_event_of_a_completed_order_is_there_once(
    completed: list[ConsumerRecord],
) -> None:
    assert flow(completed) == list(enumerate(COMPLETED_FLOW, 1))


async def test_every_event_of_an_unpaid_order_is_there_once(
    customer: Customer, product: Product, broker: Broker
) -> None:
    order = await customer.placed(product)
    await customer.paid(order, 1)
    events = await events_up_to(broker, order, "order.cancelled")
    assert flow(events) == list(enumerate(UNPAID_FLOW, 1))
    assert value_of(events[-1])["reason"] == "Incorrect amount"


async def test_every_event_of_a_refunded_order_is_there_once(
    customer: Customer, stranger: Customer, product: Product, broker: Broker
) -> None:
    order = await customer.placed(product, 10)
    await stranger.buys(product)
    await customer.paid(order)
    events = await events_up_to(broker, order, "payment.refunded")
    assert flow(events) == list(enumerate(REFUNDED_FLOW, 1))
    assert {value_of(events[i])["amount"] for i in (1, 2, 6, 7)} == {4990}


async def test_an_order_s_events_share_its_key_and_partition(
    completed: list[ConsumerRecord],
) -> None:
    order_id = value_of(completed[0])["orderId"]
    assert {event.key.decode() for event in completed} == {order_id}
    assert {value_of(event)["orderId"] for event in completed} == {order_id}
    assert len({event.partition for event in completed}) == 1


async def test_all_topics_have_the_same_number_of_partitions(broker: Broker) -> None:
    partitions = [await broker.partitions(topic) for topic in (*EVENT_TOPICS, "dead_letter")]
    assert all(each == partitions[0] for each in partitions)


async def test_events_are_cloud_events(completed: list[ConsumerRecord]) -> None:
    for event in completed:
        headers, value = headers_of(event), value_of(event)
        assert headers["ce_specversion"] == "1.0"
        assert headers["ce_source"]
        assert headers["ce_id"] == value["eventId"]
        assert headers["ce_type"] == headers["x-event-type"] == event.topic
        assert headers["ce_subject"] == value["orderId"]
        assert headers["ce_time"] == value["occurredAt"]
        assert headers["content-type"] == "application/json"


async def test_no_two_events_share_an_id(completed: list[ConsumerRecord]) -> None:
    assert len({UUID(value_of(event)["eventId"]) for event in completed}) == len(completed)


async def test_events_happened_in_their_sequence(completed: list[ConsumerRecord]) -> None:
    moments = [value_of(event)["occurredAt"] for event in completed]
    assert all(moment.endswith("Z") for moment in moments)
    assert moments == sorted(moments, key=datetime.fromisoformat)


async def test_events_carry_the_request_that_caused_them(
    completed: list[ConsumerRecord], ids: tuple[str, str]
) -> None:
    placed, paid = ids
    expected = [placed, *[paid] * 5]
    assert [value_of(event)["requestId"] for event in completed] == expected
    assert [headers_of(event)["x-request-id"] for event in completed] == expected


async def test_events_carry_a_trace(completed: list[ConsumerRecord]) -> None:
    traces = [headers_of(event)["traceparent"] for event in completed]
    assert all(TRACEPARENT.fullmatch(trace) for trace in traces)
    assert len({trace.split("-")[1] for trace in traces[1:]}) == 1


async def test_order_created_without_a_key_carries_none(
    customer: Customer, product: Product, broker: Broker
) -> None:
    order = await customer.placed(product)
    (event,) = await events_up_to(broker, order, "order.created")
    assert value_of(event)["idempotencyKey"] is None


async def test_a_request_that_names_no_id_is_given_one_that_its_event_carries(
    customer: Customer, product: Product, broker: Broker
) -> None:
    answer = await customer.place(product)
    (event,) = await events_up_to(broker, answer.body, "order.created")
    assert headers_of(event)["x-request-id"] == answer.headers["X-Request-Id"]


async def test_a_completed_order_s_version_is_its_last_event_s_sequence(
    customer: Customer, product: Product, broker: Broker, records: Records
) -> None:
    order = await customer.buys(product)
    events = await events_up_to(broker, order, "order.completed")
    assert order["version"] == value_of(events[-1])["sequence"]
    assert await records.events(order) == [event.topic for event in events]
