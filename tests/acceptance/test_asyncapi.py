"""What is in Kafka matches /asyncapi.json."""

from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from jsonschema import Draft202012Validator, FormatChecker

from tests.acceptance.broker import Broker, headers_of, value_of
from tests.acceptance.client import Api, eventually
from tests.acceptance.conftest import NewCustomer
from tests.acceptance.customer import Admin
from tests.acceptance.rows import Rows

Json = dict[str, Any]


@pytest.fixture(scope="module")
async def document(api: Api) -> Json:
    """The AsyncAPI document."""
    return dict((await api.ask("GET", "/asyncapi.json")).body)


@pytest.fixture(scope="module")
async def messages(
    new_customer: NewCustomer, admin: Admin, broker: Broker, rows: Rows
) -> dict[str, list[ConsumerRecord]]:
    """Messages by topic: events of orders with different ends, and dead letters."""
    customer, product = new_customer(), await admin.adds(quantity=2)
    late = await customer.placed(product, 2, key="late")
    unpaid = await customer.placed(product)
    completed = await customer.buys(product)
    checked_out = await customer.placed(await admin.adds())
    await customer.check_out(checked_out)
    await customer.paid(late)
    await customer.paid(unpaid, 1)
    sent = await broker.send("order.paid", value=b"no event", headers=[("x", b"1")])
    await eventually(
        lambda: broker.dead_letters([("order.paid", sent.partition, sent.offset)]), bool
    )
    replay = {"reason": "x", "dryRun": False}
    await admin.ask("POST", f"/api/parked/{await rows.park(completed)}/replay", json=replay)
    ends = {"payment.refunded": late, "order.cancelled": unpaid, "order.intervened": completed}
    ends["order.checkout_requested"] = checked_out
    found: dict[str, list[ConsumerRecord]] = {"dead_letter": await broker.read(["dead_letter"])}
    for last, order in ends.items():
        events = await eventually(
            lambda order=order: broker.events_of(order),
            lambda events, last=last: last in [event.topic for event in events],
        )
        for event in events:
            found.setdefault(event.topic, []).append(event)
    return found


def described(document: Json, topic: str) -> Json:
    """Return the only message of a topic."""
    (channel,) = [c for c in document["channels"].values() if c["address"] == topic]
    ((name, _),) = channel["messages"].items()
    return dict(document["components"]["messages"][name])


def flaws(document: Json, schema: Json, value: Any) -> list[str]:
    """Return the errors that a schema of the document finds in the value."""
    whole = {**schema, "components": document["components"]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(value)]


def test_every_described_topic_was_read(
    document: Json, messages: dict[str, list[ConsumerRecord]]
) -> None:
    assert {channel["address"] for channel in document["channels"].values()} == messages.keys()


def test_every_message_is_as_described(
    document: Json, messages: dict[str, list[ConsumerRecord]]
) -> None:
    for topic, read in messages.items():
        payload = described(document, topic)["payload"]
        for message in read:
            assert flaws(document, payload, value_of(message)) == [], (topic, message)


def test_every_event_s_key_and_headers_are_as_described(
    document: Json, messages: dict[str, list[ConsumerRecord]]
) -> None:
    for topic in messages:
        message = described(document, topic)
        for event in messages[topic]:
            if topic != "dead_letter":
                key = message["bindings"]["kafka"]["key"]
                assert flaws(document, key, event.key.decode()) == [], event
            assert flaws(document, message["headers"], headers_of(event)) == [], event
            assert headers_of(event)["content-type"] == message["contentType"]


def test_a_message_that_is_not_as_described_would_be_found(document: Json) -> None:
    for channel in document["channels"].values():
        payload = described(document, channel["address"])["payload"]
        assert flaws(document, payload, {})
