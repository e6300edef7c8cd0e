"""Cancelling an order."""

import asyncio
from typing import Any

import pytest

from tests.acceptance.client import Answer, eventually
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, pointers, slug
from tests.acceptance.records import Records

Order = dict[str, Any]


async def test_a_cancelled_order_says_so_at_once(customer: Customer, order: Order) -> None:
    answer = await customer.cancel(order)
    assert answer.status == 200
    assert (answer.body["status"], answer.body["version"]) == ("CANCELLED", 2)
    assert answer.body["cancelReason"] == "Cancelled by the customer"
    assert answer.headers["ETag"] == '"2"'
    assert await customer.see(order) == answer.body


async def test_the_reason_is_kept(customer: Customer, order: Order) -> None:
    assert (await customer.cancel(order, "too slow")).body["cancelReason"] == "too slow"


@pytest.mark.parametrize("reason", ["", "  ", 5, "x" * 501, "nul\x00"])
async def test_a_bad_reason_is_named(customer: Customer, order: Order, reason: Any) -> None:
    assert pointers(await customer.cancel(order, reason)) == {"#/reason"}
    assert (await customer.see(order))["status"] == "CREATED"


async def test_a_misspelt_field_is_not_ignored(customer: Customer, order: Order) -> None:
    path = f"/api/orders/{order['id']}"
    assert pointers(await customer.ask("POST", f"{path}/cancel", '{"reasn": "x"}')) == {"#/reasn"}
    odd = await customer.ask("POST", f"{path}/cancel", '{"a b/%41~": "x"}')
    assert pointers(odd) == {"#/a%20b~1%2541~0"}
    assert pointers(await customer.ask("PATCH", f"{path}/pay", '{"amout": 1}')) == {"#/amout"}
    assert pointers(await customer.ask("PATCH", f"{path}/pay?amout=1")) == {"#/amout"}
    assert pointers(await customer.ask("POST", f"{path}/cancel?reason=fraud")) == {"#/reason"}
    assert (await customer.see(order))["version"] == 1


async def test_an_administrator_may_cancel_and_a_stranger_may_not(
    stranger: Customer, admin: Admin, order: Order
) -> None:
    refused = await stranger.cancel(order)
    assert_problem(refused, 403, "You are not allowed to access this order")
    answer = await admin.cancel(order)
    assert answer.body["cancelReason"] == "Cancelled by an administrator"


async def test_a_cancelled_order_is_told_to_its_customer(
    customer: Customer, order: Order, logged: Any
) -> None:
    await customer.cancel(order)
    assert len(await logged(f"Sending notification for cancelled order {order['id']}")) == 1
    _, cancelled = await customer.timeline(order)
    assert cancelled["data"]["customerEmail"] == customer.email, "where a mail goes"


async def test_a_final_order_cannot_be_cancelled(
    customer: Customer, order: Order, product: dict[str, Any]
) -> None:
    completed = await customer.buys(product)
    await customer.cancel(order)
    for final in (completed, order):
        answer = await customer.cancel(final)
        assert_problem(answer, 409)
        assert slug(answer) == "not-cancellable"


async def test_cancel_beats_a_payment_that_is_under_way_or_gives_the_money_back(
    customer: Customer, order: Order, product: dict[str, Any], records: Records
) -> None:
    await customer.paid(order)
    answer = await customer.cancel(order)
    if answer.status == 409:
        await customer.wait_until(order, "COMPLETED")
        assert await records.payments(order) == ["SUCCEEDED"]
        assert await customer.available(product) == 8
        return
    settled = {"VOIDED", "REFUNDED"}
    await eventually(lambda: records.payments(order), lambda found: set(found) <= settled)
    await eventually(lambda: customer.available(product), lambda pieces: pieces == 10)
    assert (await customer.see(order))["status"] == "CANCELLED"


async def test_a_stale_version_is_not_cancelled(customer: Customer, order: Order) -> None:
    stale = await customer.cancel(order, if_match='"7"')
    assert_problem(stale, 412)
    assert (await customer.cancel(order, if_match='"7", "1"')).status == 200


async def test_the_same_cancellation_again_gets_the_same_answer(
    customer: Customer, order: Order
) -> None:
    first = await customer.cancel(order, "enough", key="once")
    again = await customer.cancel(order, "enough", key="once")
    assert (first.status, again.status) == (200, 200)
    assert again.body == first.body
    other = await customer.cancel(order, "other", key="once")
    assert slug(other) == "idempotency-key-reused"


async def test_many_cancellations_at_once_are_one(
    customer: Customer, order: Order, records: Records
) -> None:
    answers: list[Answer] = await asyncio.gather(*[customer.cancel(order) for _ in range(10)])
    assert sorted(answer.status for answer in answers) == [200] + [409] * 9
    assert await records.events(order) == ["order.created", "order.cancelled"]
