"""The total of an order."""

from typing import Any

import pytest

from tests.acceptance.client import Answer
from tests.acceptance.customer import Admin, Customer, basket
from tests.acceptance.problems import NOT_AMOUNTS, NOT_JSON_NUMBERS, assert_problem, pointers, slug

Product = dict[str, Any]


async def place_for(customer: Customer, product: Product, total: str) -> Answer:
    """Order one piece, expecting a total of this JSON text."""
    items = f'[{{"productId": "{product["id"]}", "quantity": 1}}]'
    text = f'{{"items": {items}, "totalAmount": {total}}}'
    return await customer.ask("POST", "/api/orders", text)


async def test_prices_come_from_the_catalogue(customer: Customer, product: Product) -> None:
    item = {"productId": product["id"], "quantity": 1, "unitPrice": 1, "lineTotal": 1}
    order = (await customer.post_order({"items": [item], "price": 1})).body
    assert (order["items"][0]["unitPrice"], order["totalAmount"]) == (499, 499)


async def test_a_free_order_completes(customer: Customer, admin: Admin) -> None:
    order = await customer.buys(await admin.adds(price=0), 2)
    assert order["totalAmount"] == 0


@pytest.mark.parametrize("total", ["499", "499.0", "499.00", "null"])
async def test_the_total_that_the_customer_expects_may_be_told(
    customer: Customer, product: Product, total: str
) -> None:
    answer = await place_for(customer, product, total)
    assert (answer.status, answer.body.get("totalAmount")) == (201, 499)


@pytest.mark.parametrize("total", [0, 498.99, 499.01, 998])
async def test_another_total_than_the_catalogue_s_is_a_mismatch(
    customer: Customer, product: Product, total: Any
) -> None:
    answer = await customer.post_order(basket((product, 1), totalAmount=total))
    problem = assert_problem(answer, 422, "totalAmount differs from the catalogue's prices")
    assert slug(answer) == "total-mismatch"
    told = "the catalogue's total is 499"
    assert problem["errors"] == [{"detail": told, "pointer": "#/totalAmount"}]


@pytest.mark.parametrize("total", NOT_AMOUNTS)
async def test_a_bad_total_is_named(customer: Customer, product: Product, total: str) -> None:
    assert pointers(await place_for(customer, product, total)) == {"#/totalAmount"}


@pytest.mark.parametrize("total", NOT_JSON_NUMBERS, ids=lambda total: total[:24])
async def test_a_total_that_is_no_json_number_is_refused(
    customer: Customer, product: Product, total: str
) -> None:
    assert pointers(await place_for(customer, product, total))


async def test_a_total_beyond_all_money_is_refused(customer: Customer, admin: Admin) -> None:
    gold = await admin.adds(price=9_999_999_999_999.99, quantity=1_000_000)
    assert (await customer.place(gold, 1)).status == 201
    for quantity in (2, 1_000_000):
        assert pointers(await customer.place(gold, quantity)) == {"#/items"}
