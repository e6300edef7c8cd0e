"""What clients of two older systems rely on: the examples of their documentation, verbatim."""

from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.broker import Broker, value_of
from tests.acceptance.client import Answer, eventually
from tests.acceptance.customer import Admin, Customer

KEY = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
async def placed(customer: Customer, admin: Admin) -> Answer:
    """The answer to the example's order: two pieces, 499 in total, with the example's key."""
    product = await admin.adds(price=249.5)
    body = {"items": [{"productId": product["id"], "quantity": 2}], "totalAmount": 499}
    headers = {"Idempotency-Key": KEY, "X-Request-Id": "trace-id"}
    return await customer.ask("POST", "/api/orders", json=body, headers=headers)


async def test_the_example_s_order_is_placed(placed: Answer, customer: Customer) -> None:
    assert placed.status == 201
    assert (placed.body["totalAmount"], placed.body["userId"]) == (499, customer.id)


async def test_its_event_tells_the_example_s_fields(
    placed: Answer, customer: Customer, broker: Broker
) -> None:
    (event,) = await eventually(lambda: broker.events_of(placed.body), bool)
    assert event.topic == "order.created"
    told: dict[str, Any] = value_of(event)
    assert told["orderId"] == placed.body["id"] == str(UUID(told["orderId"]))
    assert told["userId"] == customer.id
    assert told["totalAmount"] == 499
    assert told["createdAt"] == placed.body["createdAt"]
    assert (told["requestId"], told["idempotencyKey"]) == ("trace-id", KEY)


async def test_its_key_returns_the_same_order(placed: Answer, customer: Customer) -> None:
    line = placed.body["items"][0]
    body = {
        "items": [{"productId": line["productId"], "quantity": line["quantity"]}],
        "totalAmount": 499,
    }
    again = await customer.ask("POST", "/api/orders", json=body, headers={"Idempotency-Key": KEY})
    assert (again.status, again.body["id"]) == (200, placed.body["id"])


async def test_a_stranger_gets_the_example_s_refusal(placed: Answer, stranger: Customer) -> None:
    path = f"/api/orders/{placed.body['id']}"
    refused = await stranger.ask("GET", path)
    assert refused.body == {
        "type": "https://order-service/problems/forbidden",
        "title": "Forbidden",
        "status": 403,
        "detail": "You are not allowed to access this order",
        "instance": path,
        "requestId": refused.headers["X-Request-Id"],
    }
    assert refused.headers["Content-Type"] == "application/problem+json"


async def test_the_owner_finds_it_among_all_orders(placed: Answer, customer: Customer) -> None:
    found = (await customer.page())["data"]
    assert [order["id"] for order in found] == [placed.body["id"]]
