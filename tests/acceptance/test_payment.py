"""Paying for an order."""

import asyncio
from typing import Any

import pytest

from tests.acceptance.client import UNKNOWN_ID, Answer
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import NOT_AMOUNTS, NOT_JSON_NUMBERS, assert_problem, pointers, slug
from tests.acceptance.records import Records
from tests.acceptance.rows import Rows

Order = dict[str, Any]


async def pay_with(customer: Customer, order: Order, text: str) -> Answer:
    """Pay with a body of this text."""
    return await customer.ask("PATCH", f"/api/orders/{order['id']}/pay", text)


async def pay_by_query(customer: Customer, order: Order, query: str) -> Answer:
    return await customer.ask("PATCH", f"/api/orders/{order['id']}/pay?{query}")


async def test_asking_to_pay_leaves_the_order_created(customer: Customer, order: Order) -> None:
    answer = await customer.pay(order)
    assert answer.status == 200
    assert (answer.body["status"], answer.body["version"]) == ("CREATED", 2)
    assert answer.headers["ETag"] == '"2"'
    assert answer.body["items"] == order["items"]


@pytest.mark.parametrize("text", ["", "{}", '{"amount": null}', '{"amount": 998.00}'])
async def test_the_exact_amount_in_the_body_or_none_completes_the_order(
    customer: Customer, order: Order, text: str
) -> None:
    assert (await pay_with(customer, order, text)).status == 200
    await customer.wait_until(order, "COMPLETED")


@pytest.mark.parametrize("query", ["", "amount=998", "amount=998.0", "amount=998.00"])
async def test_the_exact_amount_in_the_query_or_none_completes_the_order(
    customer: Customer, order: Order, query: str
) -> None:
    assert (await pay_by_query(customer, order, query)).status == 200
    await customer.wait_until(order, "COMPLETED")


@pytest.mark.parametrize("amount", [0, 997.99, 998.01, 9_999_999_999_999.99])
async def test_another_amount_cancels_the_order(
    customer: Customer, order: Order, records: Records, amount: Any
) -> None:
    await customer.paid(order, amount)
    cancelled = await customer.wait_until(order, "CANCELLED")
    assert cancelled["cancelReason"] == "Incorrect amount"
    assert await customer.available({"id": order["items"][0]["productId"]}) == 10
    assert await records.payments(order) == ["FAILED"]


async def test_another_amount_in_the_query_cancels_the_order(
    customer: Customer, order: Order
) -> None:
    await pay_by_query(customer, order, "amount=1")
    cancelled = await customer.wait_until(order, "CANCELLED")
    assert cancelled["cancelReason"] == "Incorrect amount"


async def test_an_order_has_one_payment_under_way(
    rows: Rows, customer: Customer, order: Order, records: Records
) -> None:
    await rows.add_pending_payment(order)
    refused = await customer.pay(order)
    assert_problem(refused, 409)
    assert slug(refused) == "payment-in-progress"
    assert await records.payments(order) == ["PENDING"]


async def test_of_those_who_pay_at_once_one_pays(
    customer: Customer, order: Order, records: Records
) -> None:
    answers = await asyncio.gather(*[customer.pay(order) for _ in range(5)])
    refused = [answer for answer in answers if answer.status != 200]
    assert len(refused) == 4
    for answer in refused:
        detail = assert_problem(answer, 409)["detail"]
        expected = "Only CREATED orders can be paid"
        assert slug(answer) == "payment-in-progress" or detail == expected
    await customer.wait_until(order, "COMPLETED")
    assert await records.payments(order) == ["SUCCEEDED"]


async def test_a_completed_order_cannot_be_paid_again(customer: Customer, order: Order) -> None:
    await customer.paid(order)
    completed = await customer.wait_until(order, "COMPLETED")
    assert_problem(await customer.pay(order), 409, "Only CREATED orders can be paid")
    assert await customer.see(order) == completed


async def test_a_cancelled_order_cannot_be_paid(customer: Customer, order: Order) -> None:
    await customer.paid(order, 1)
    await customer.wait_until(order, "CANCELLED")
    assert_problem(await customer.pay(order), 409, "Only CREATED orders can be paid")


async def test_nobody_pays_for_another_s_order(
    customer: Customer, stranger: Customer, admin: Admin, order: Order, records: Records
) -> None:
    for other in (stranger, admin):
        refused = await other.pay(order)
        assert_problem(refused, 403, "You are not allowed to access this order")
    assert await customer.see(order) == {
        name: order[name] for name in order.keys() - {"isDuplicate"}
    }
    assert await records.payments(order) == []


@pytest.mark.parametrize("id", [UNKNOWN_ID, "no-uuid", "%00"])
async def test_an_unknown_order_cannot_be_paid(customer: Customer, id: str) -> None:
    assert_problem(await customer.pay({"id": id}), 404, "Order not found")


@pytest.mark.parametrize("amount", NOT_AMOUNTS)
async def test_a_bad_amount_in_the_body_is_named(
    customer: Customer, order: Order, records: Records, amount: str
) -> None:
    answer = await pay_with(customer, order, f'{{"amount": {amount}}}')
    assert pointers(answer) == {"#/amount"}
    assert await records.events(order) == ["order.created"]


@pytest.mark.parametrize("amount", NOT_JSON_NUMBERS, ids=lambda amount: amount[:24])
async def test_an_amount_that_is_no_json_number_is_refused(
    customer: Customer, order: Order, records: Records, amount: str
) -> None:
    assert pointers(await pay_with(customer, order, f'{{"amount": {amount}}}'))
    assert await records.events(order) == ["order.created"]


BAD_IN_QUERY = [
    "",
    "10.001",
    "-1",
    "1e20",
    "NaN",
    "inf",
    "998,00",
    "0x10",
    "9" * 41,
    "1.2.3",
    ".5",
    "5.",
    "007",
    "1e999",
    "%00",
    "10.000000000000000001",
    "%D9%A1",
]


@pytest.mark.parametrize("amount", BAD_IN_QUERY)
async def test_a_bad_amount_in_the_query_is_named(
    customer: Customer, order: Order, records: Records, amount: str
) -> None:
    assert pointers(await pay_by_query(customer, order, f"amount={amount}")) == {"#/amount"}
    assert await records.events(order) == ["order.created"]


async def test_two_amounts_that_differ_are_refused(
    customer: Customer, order: Order, records: Records
) -> None:
    path = f"/api/orders/{order['id']}/pay?amount=998"
    assert pointers(await customer.ask("PATCH", path, '{"amount": 997}')) == {"#/amount"}
    assert await records.events(order) == ["order.created"]


async def test_a_payment_of_the_version_that_was_seen_is_taken(
    customer: Customer, order: Order
) -> None:
    seen = await customer.ask("GET", f"/api/orders/{order['id']}")
    assert (await customer.pay(order, if_match=seen.headers["ETag"])).status == 200


async def test_a_payment_of_any_version_is_taken(customer: Customer, order: Order) -> None:
    assert (await customer.pay(order, if_match="*")).status == 200


@pytest.mark.parametrize("etag", ['"0"', '"2"', '"x"', 'W/"1"', '"' + "9" * 30 + '"'])
async def test_a_payment_of_another_version_is_refused(
    customer: Customer, order: Order, records: Records, etag: str
) -> None:
    assert_problem(await customer.pay(order, if_match=etag), 412)
    assert await records.events(order) == ["order.created"]
    assert (await customer.pay(order)).status == 200


async def test_a_payment_of_what_is_no_version_is_refused_as_bad_input(
    customer: Customer, order: Order, records: Records
) -> None:
    answer = await customer.pay(order, if_match="1")
    assert pointers(answer) == {"#"}
    assert "If-Match" in answer.body["detail"]
    assert await records.events(order) == ["order.created"]


async def test_one_of_several_versions_may_match(customer: Customer, order: Order) -> None:
    assert (await customer.pay(order, if_match='"7", "1"')).status == 200
