"""Records read current and older events, and report malformed ones without raising."""

import json
from typing import Any
from uuid import uuid4

import pytest
from faust.types.tuples import Message

from app import app
from app.kafka.decoding import EventSchema, Malformed
from app.topics import EVENTS, Event, OrderCreated, PaymentSucceeded

YESTERDAY: dict[str, dict[str, Any]] = {
    "order.created": {
        "userId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a01",
        "totalAmount": 499,
        "currency": "PLN",
        "createdAt": "2026-01-03T12:00:00.000000Z",
        "items": [{"productId": "p", "quantity": 2, "unitPrice": 249.5, "lineTotal": 499}],
    },
    "order.payment_requested": {
        "paymentId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a02",
        "provider": "internal",
        "amount": 499,
        "expectedAmount": 499,
        "currency": "PLN",
    },
    "order.checkout_requested": {
        "paymentId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a02",
        "provider": "stripe",
        "amount": 499,
        "currency": "PLN",
        "expiresAt": "2026-01-03T12:31:00.000000Z",
    },
    "order.paid": {
        "paymentId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a02",
        "userId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a01",
        "totalAmount": 499,
        "currency": "PLN",
    },
    "inventory.reserved": {"items": [{"productId": "p", "quantity": 2}]},
    "inventory.rejected": {"shortages": [{"productId": "p", "missing": 1}]},
}
PAYMENT = {
    "paymentId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a02",
    "provider": "internal",
    "amount": 499,
    "currency": "PLN",
}
END = {
    "userId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a01",
    "totalAmount": 499,
    "currency": "PLN",
}
YESTERDAY |= {
    "payment.succeeded": PAYMENT,
    "payment.failed": {**PAYMENT, "reason": "Incorrect amount"},
    "payment.refund_requested": {**PAYMENT, "reason": "Out of stock"},
    "payment.refunded": PAYMENT,
    "order.completed": END,
    "order.cancelled": {**END, "reason": "Out of stock"},
    "order.intervened": {
        "action": "replay",
        "handler": "stock.reserve",
        "messageId": "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a03",
        "topic": "order.paid",
        "actor": "boss@example.com",
        "reason": "the stock was counted anew",
    },
}


def envelope() -> dict[str, Any]:
    return {
        "eventId": str(uuid4()),
        "orderId": str(uuid4()),
        "sequence": 3,
        "occurredAt": "2026-01-03T12:00:00.000000Z",
        "requestId": "trace-id",
    }


def decode(record: type[Event], value: bytes | None) -> Event | Malformed:
    message = Message(record.topic_name, 0, 0, 0.0, 0, None, b"key", value, None)
    return EventSchema(value_type=record).loads_value(app, message)


@pytest.mark.parametrize("record", EVENTS, ids=lambda record: record.topic_name)
def test_todays_records_read_yesterdays_bytes(record: type[Event]) -> None:
    written = {**envelope(), **YESTERDAY[record.topic_name]}
    event = decode(record, json.dumps({**written, "addedTomorrow": 1}).encode())
    assert isinstance(event, record)
    read = json.loads(event.dumps())
    assert {name: read[name] for name in written} == written


@pytest.mark.parametrize("record", EVENTS, ids=lambda record: record.topic_name)
@pytest.mark.parametrize("other", ["shipping.models.Paid", "app.topics.DeadLetter", None])
def test_what_another_application_says_of_its_class_is_ignored(
    record: type[Event], other: str | None
) -> None:
    written = {**envelope(), **YESTERDAY[record.topic_name], "__faust": other and {"ns": other}}
    assert type(decode(record, json.dumps(written).encode())) is record


@pytest.mark.parametrize("record", EVENTS, ids=lambda record: record.topic_name)
def test_an_event_that_needs_no_conversion_is_what_faust_makes_of_it(record: type[Event]) -> None:
    faust_s = record.from_data({**envelope(), **YESTERDAY[record.topic_name]})
    for left_out in ((), (None,)):
        written = {name: value for name, value in faust_s.asdict().items() if value not in left_out}
        event = decode(record, json.dumps({**written, "dumps": "no method"}).encode())
        assert vars(event) == vars(faust_s)


@pytest.mark.parametrize("record", EVENTS, ids=lambda record: record.topic_name)
def test_each_field_that_yesterday_did_not_know_is_optional(record: type[Event]) -> None:
    required = set(envelope()) | set(YESTERDAY[record.topic_name])
    assert required <= set(record._options.fields)
    assert set(record._options.fields) - required <= set(record._options.defaults)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"not json",
        b"[]",
        b"5",
        b"{}",
        json.dumps({**envelope(), **PAYMENT, "orderId": "no uuid"}).encode(),
        json.dumps({**envelope(), **PAYMENT, "paymentId": "no uuid"}).encode(),
        json.dumps({**envelope(), **PAYMENT, "paymentId": {"a": 1}}).encode(),
        json.dumps({**envelope(), **PAYMENT, "sequence": "third"}).encode(),
        json.dumps({**envelope(), **PAYMENT, "sequence": 0}).encode(),
        json.dumps({**envelope(), **PAYMENT, "requestId": "x\n2026-01-03 INFO [y] z"}).encode(),
        json.dumps({**envelope(), **PAYMENT, "requestId": "x" * 129}).encode(),
        json.dumps({**envelope(), **PAYMENT, "requestId": ""}).encode(),
    ],
)
def test_what_is_no_event_is_told_as_malformed(value: bytes | None) -> None:
    assert isinstance(decode(PaymentSucceeded, value), Malformed)


def test_what_is_told_of_a_malformed_message_is_short() -> None:
    event = {**envelope(), **PAYMENT, "amount": "9" * 5000 + "x"}
    told = decode(PaymentSucceeded, json.dumps(event).encode())
    assert isinstance(told, Malformed) and len(told.error) == 500


def test_order_created_carries_the_fields_that_older_consumers_know() -> None:
    known = {"orderId", "userId", "totalAmount", "createdAt", "requestId", "idempotencyKey"}
    assert known <= set(OrderCreated._options.fields)
