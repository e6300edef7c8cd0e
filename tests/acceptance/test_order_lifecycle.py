"""The life of an order from its creation to its completion."""

import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.broker import Broker, value_of
from tests.acceptance.client import UNKNOWN_ID, Api, eventually
from tests.acceptance.conftest import Metric, NewCustomer
from tests.acceptance.customer import Admin, Customer, basket
from tests.acceptance.problems import assert_problem, pointers
from tests.acceptance.records import Records

Product = dict[str, Any]
RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def test_who_registers_and_pays_gets_a_completed_order(
    api: Api, product: Product, logged: Callable[[str], Awaitable[list[str]]]
) -> None:
    account = {"email": f"ada-{uuid4()}@example.com", "password": "correct horse"}
    user = (await api.ask("POST", "/api/auth/register", json=account)).body
    token = (await api.ask("POST", "/api/auth/login", json=account)).body["token"]
    ada = Customer(api, token, user["id"], user["email"])
    order = await ada.buys(product, 3)
    assert (order["version"], order["customerEmail"]) == (6, account["email"])
    assert await ada.available(product) == 7
    assert len(await logged(f"Sending notification for completed order {order['id']}")) == 1


async def test_a_new_order_is_told_whole(customer: Customer, product: Product) -> None:
    answer = await customer.place(product, 2)
    order = answer.body
    line = {"productId": product["id"], "quantity": 2, "unitPrice": 499, "lineTotal": 998}
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/orders/{order['id']}"
    assert order == {
        "id": order["id"],
        "userId": customer.id,
        "customerEmail": customer.email,
        "status": "CREATED",
        "totalAmount": 998,
        "currency": "PLN",
        "items": [line],
        "cancelReason": None,
        "version": 1,
        "createdAt": order["createdAt"],
        "updatedAt": order["createdAt"],
        "isDuplicate": False,
    }
    assert RFC3339_UTC.fullmatch(order["createdAt"])


async def test_an_order_is_found_at_its_location(customer: Customer, product: Product) -> None:
    placed = await customer.place(product)
    found = await customer.ask("GET", placed.headers["Location"])
    assert found.status == 200
    assert {**found.body, "isDuplicate": False} == placed.body
    assert found.headers["ETag"] == '"1"'


async def test_an_order_that_the_client_has_is_not_sent_again(
    customer: Customer, product: Product
) -> None:
    order = await customer.placed(product)
    path = f"/api/orders/{order['id']}"
    for known in ('"1"', 'W/"1"', '"7", "1"', "*"):
        answer = await customer.ask("GET", path, headers={"If-None-Match": known})
        assert (answer.status, answer.headers["ETag"]) == (304, '"1"')
    await customer.cancel(order)
    answer = await customer.ask("GET", path, headers={"If-None-Match": '"1"'})
    assert (answer.status, answer.body["status"]) == (200, "CANCELLED")


async def test_a_completed_order_keeps_what_was_ordered(
    customer: Customer, product: Product
) -> None:
    order = await customer.placed(product, 2)
    await customer.paid(order)
    completed = await customer.wait_until(order, "COMPLETED")
    kept = order.keys() - {"status", "version", "updatedAt", "isDuplicate"}
    assert {name: completed[name] for name in kept} == {name: order[name] for name in kept}
    assert completed["updatedAt"] > completed["createdAt"]


async def test_a_completed_order_is_told_once_though_its_events_come_twice(
    customer: Customer,
    product: Product,
    broker: Broker,
    metric: Metric,
    log_lines: Callable[[str], list[str]],
    records: Records,
) -> None:
    before = await metric("orders_duplicate_events_total")
    order = await customer.buys(product, 2)
    events = await broker.events_of(order)
    await eventually(lambda: records.payments(order), lambda payments: payments == ["SUCCEEDED"])
    for event in events:
        await broker.send_again(event)
    await eventually(
        lambda: metric("orders_duplicate_events_total"), lambda now: now - before == len(events)
    )
    assert await customer.see(order) == order
    assert await customer.available(product) == 8
    assert len(log_lines(f"Sending notification for completed order {order['id']}")) == 1


async def test_an_order_of_several_products_takes_from_each(
    admin: Admin, customer: Customer
) -> None:
    lamp, pan = await admin.adds(price=1.1), await admin.adds(price=0.07)
    order = (await customer.post_order(basket((lamp, 2), (pan, 3)))).body
    assert order["totalAmount"] == Decimal("2.41")
    assert [item["lineTotal"] for item in order["items"]] == [Decimal("2.2"), Decimal("0.21")]
    await customer.paid(order)
    await customer.wait_until(order, "COMPLETED")
    assert (await customer.available(lamp), await customer.available(pan)) == (8, 7)


async def test_the_same_product_twice_is_one_line(customer: Customer, product: Product) -> None:
    order = (await customer.post_order(basket((product, 1), (product, 4)))).body
    assert [item["quantity"] for item in order["items"]] == [5]
    assert order["totalAmount"] == 5 * 499


async def test_a_hundred_lines_are_an_order_and_one_more_is_none(
    customer: Customer, admin: Admin
) -> None:
    plenty = await admin.adds(quantity=1000)
    assert (await customer.post_order(basket(*[(plenty, 1)] * 100))).status == 201
    assert pointers(await customer.post_order(basket(*[(plenty, 1)] * 101))) == {"#/items"}


async def test_a_million_pieces_are_an_order(customer: Customer, admin: Admin) -> None:
    screw = await admin.adds(price=0.01, quantity=1_000_000)
    order = await customer.buys(screw, 1_000_000)
    assert order["totalAmount"] == 10_000
    assert await customer.available(screw) == 0


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 1.5, "1", True, None, 10**30])
async def test_a_bad_quantity_is_named(customer: Customer, product: Product, quantity: Any) -> None:
    assert pointers(await customer.place(product, quantity)) == {"#/items/0/quantity"}


async def test_an_unknown_product_cannot_be_ordered(customer: Customer, product: Product) -> None:
    unknown = {"id": str(uuid4())}
    answer = await customer.post_order(basket((product, 1), (unknown, 1)))
    problem = assert_problem(answer, 404, "Product not found")
    assert problem["errors"] == [
        {"detail": "is not in the catalogue", "pointer": "#/items/1/productId"}
    ]


async def test_an_order_is_shown_to_its_owner_and_to_administrators(
    customer: Customer, stranger: Customer, admin: Admin, product: Product
) -> None:
    order = await customer.placed(product)
    path = f"/api/orders/{order['id']}"
    assert (await admin.ask("GET", path)).status == 200
    refused = await stranger.ask("GET", path)
    assert_problem(refused, 403, "You are not allowed to access this order")
    assert order["items"][0]["productId"] not in str(refused.body)


@pytest.mark.parametrize("id", [UNKNOWN_ID, "no-uuid", "%00", "%FF", "42"])
async def test_an_unknown_order_is_not_found(new_customer: NewCustomer, id: str) -> None:
    answer = await new_customer().ask("GET", f"/api/orders/{id}")
    assert_problem(answer, 404, "Order not found")


async def test_a_cancelled_order_stands_at_the_version_of_its_last_event(
    customer: Customer, product: Product, broker: Broker
) -> None:
    order = await customer.placed(product)
    await customer.paid(order, 1)
    cancelled = await customer.wait_until(order, "CANCELLED")
    assert value_of((await broker.events_of(order))[-1])["sequence"] == cancelled["version"]
