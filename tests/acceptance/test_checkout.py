"""Paying on Stripe's page."""

import asyncio
from typing import Any

import pytest

from tests.acceptance.client import UNKNOWN_ID, eventually
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, slug
from tests.acceptance.records import Records
from tests.acceptance.stripe_stand_in import StripeStandIn

Json = dict[str, Any]

PAID = [
    *("order.created", "order.checkout_requested", "payment.succeeded"),
    *("order.paid", "inventory.reserved", "order.completed"),
]


async def types(customer: Customer, order: Json) -> list[str]:
    return [event["type"] for event in await customer.timeline(order)]


async def test_an_order_is_paid_on_stripes_page(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    assert (await customer.checkout(order))["status"] == "NOT_REQUESTED"
    asked = await customer.check_out(order)
    assert asked.status == 202
    path = f"/api/orders/{order['id']}/payments/stripe"
    assert asked.body == {"orderId": order["id"], "status": "REQUESTED", "pollUrl": path}
    ready = await eventually(
        lambda: customer.checkout(order), lambda seen: seen["status"] == "READY"
    )
    assert ready["orderId"] == order["id"] and ready["failureReason"] is None
    await stripe.press(ready)
    await customer.wait_until(order, "COMPLETED")
    assert await types(customer, order) == PAID
    assert await stripe.counts(order) == (1, 1, 0)
    assert await customer.checkout(order) == {**ready, "checkoutUrl": None}, "nobody pays twice"


async def test_stripe_is_told_the_lines_the_order_and_the_time_there_is(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await customer.ready_checkout(order)
    (session,) = (await stripe.of(order))["sessions"]
    assert (session["amount_total"], session["currency"]) == (99800, "pln")
    assert session["metadata"]["orderId"] == order["id"]
    row = await stripe.row(
        "select extract(epoch from due_at)::bigint as due, extract(epoch from expires_at)::bigint"
        " as ends from order_deadlines join payments using (order_id) where order_id = $1",
        order["id"],
    )
    assert row["due"] == row["ends"] == session["expires_at"]


async def test_a_checkout_that_is_open_is_not_opened_again(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    answers = await asyncio.gather(*[customer.check_out(order) for _ in range(5)])
    assert {answer.status for answer in answers} == {202}
    ready = await customer.ready_checkout(order)
    again = await customer.check_out(order)
    assert (again.status, again.body["status"]) == (202, "READY")
    assert await customer.checkout(order) == ready
    assert await stripe.counts(order) == (1, 0, 0)


async def test_an_order_is_paid_here_or_there(
    customer: Customer, order: Json, stripe: StripeStandIn, records: Records
) -> None:
    await customer.ready_checkout(order)
    refused = await customer.pay(order)
    assert_problem(refused, 409)
    assert slug(refused) == "payment-in-progress"
    assert await records.payments(order) == ["PENDING"]


async def test_only_its_owner_pays_an_order(
    stranger: Customer, admin: Admin, order: Json, stripe: StripeStandIn
) -> None:
    path = f"/api/orders/{order['id']}/payments/stripe"
    for other in (stranger, admin):
        for method in ("POST", "GET"):
            refused = await other.ask(method, path)
            assert_problem(refused, 403, "You are not allowed to access this order")
    assert await stripe.counts(order) == (0, 0, 0)


@pytest.mark.parametrize("id", [UNKNOWN_ID, "no-uuid"])
async def test_an_unknown_order_has_no_checkout(customer: Customer, id: str) -> None:
    for method in ("POST", "GET"):
        answer = await customer.ask(method, f"/api/orders/{id}/payments/stripe")
        assert_problem(answer, 404, "Order not found")


async def test_an_order_that_has_ended_is_not_paid(
    customer: Customer, product: Json, order: Json
) -> None:
    await customer.cancel(order)
    for ended in (order, await customer.buys(product)):
        assert_problem(await customer.check_out(ended), 409, "Only CREATED orders can be paid")


async def test_an_order_of_nothing_is_not_paid_at_stripe(customer: Customer, admin: Admin) -> None:
    order = await customer.placed(await admin.adds(price=0))
    refused = await customer.check_out(order)
    assert_problem(refused, 409)
    assert slug(refused) == "nothing-to-pay"


async def test_what_stripe_refuses_is_told_and_another_attempt_may_be_made(
    customer: Customer, admin: Admin, stripe: StripeStandIn, records: Records
) -> None:
    order = await customer.placed(await admin.adds(price=1))
    for _ in range(2):
        failed = await customer.ready_checkout(order)
        assert failed == {
            "orderId": order["id"],
            "status": "FAILED",
            "checkoutUrl": None,
            "failureReason": "The amount is too small for Stripe",
        }
    assert (await customer.see(order))["status"] == "CREATED"
    assert await records.payments(order) == ["FAILED", "FAILED"]
    await customer.paid(order)
    await customer.wait_until(order, "COMPLETED")


async def test_a_payment_that_fails_cancels_the_order(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await stripe.press(await customer.ready_checkout(order), "fail")
    cancelled = await customer.wait_until(order, "CANCELLED")
    assert cancelled["cancelReason"] == "The payment failed"
    told = await customer.checkout(order)
    assert (told["status"], told["failureReason"]) == ("FAILED", "The payment failed")


async def test_a_customer_who_leaves_may_come_back(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    ready = await customer.ready_checkout(order)
    await stripe.press(ready, "leave")
    assert await customer.checkout(order) == ready
    await stripe.press(ready)
    await customer.wait_until(order, "COMPLETED")


async def test_when_the_time_is_up_the_page_is_closed_first(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    ready = await customer.ready_checkout(order)
    await stripe.make_due(order)
    cancelled = await customer.wait_until(order, "CANCELLED")
    assert cancelled["cancelReason"] == "expired"
    (session,) = (await stripe.of(order))["sessions"]
    assert session["status"] == "expired"
    assert await stripe.press(ready) == "410"
    assert (await customer.checkout(order))["status"] == "EXPIRED"


async def test_who_pays_in_the_last_moment_has_paid(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    """Stripe answers that the session is complete, and its webhook comes later."""
    ready = await customer.ready_checkout(order)
    await stripe.hold()
    await stripe.press(ready)
    await stripe.make_due(order)
    await eventually(
        lambda: stripe.row(
            "select due_at > now() + interval '5 minutes' as waits"
            " from provider_calls where kind = 'expire' and order_id = $1",
            order["id"],
        ),
        lambda row: row and row["waits"],
    )
    assert (await customer.see(order))["status"] == "CREATED"
    await stripe.deliver()
    await customer.wait_until(order, "COMPLETED")


async def test_a_cancel_closes_the_page(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    ready = await customer.ready_checkout(order)
    assert (await customer.cancel(order)).status == 200

    async def session() -> Any:
        return (await stripe.of(order))["sessions"][0]["status"]

    await eventually(session, lambda status: status == "expired")
    assert await stripe.press(ready) == "410"
    assert (await customer.checkout(order))["status"] == "EXPIRED"


async def test_explain_tells_where_a_checkout_stands(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    async def explained() -> Any:
        return (await customer.ask("GET", f"/api/orders/{order['id']}/explain")).body

    assert (await explained())["actions"] == ["pay", "checkout", "cancel"]
    ready = await customer.ready_checkout(order)
    told = await explained()
    assert told["waitingFor"]["what"] == "payment by the customer"
    assert told["actions"] == ["checkout", "cancel"]
    await stripe.whims(delayed=True)
    await stripe.press(ready)
    on_its_way = "Stripe, to receive the payment, which is on its way"
    await eventually(explained, lambda told: told["waitingFor"]["what"] == on_its_way)


async def test_the_same_request_again_gets_the_same_answer(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    first = await customer.check_out(order, key="once")
    await customer.ready_checkout(order)
    again = await customer.check_out(order, key="once")
    assert (first.status, again.status) == (202, 202)
    assert again.body == first.body
    assert (await types(customer, order)).count("order.checkout_requested") == 1


async def test_a_key_is_good_for_one_checkout(customer: Customer, product: Json) -> None:
    one, other = await customer.placed(product), await customer.placed(product)
    await customer.check_out(one, key="once")
    refused = await customer.check_out(other, key="once")
    assert_problem(refused, 422)
    assert slug(refused) == "idempotency-key-reused"
    assert (await customer.checkout(other))["status"] == "NOT_REQUESTED"


async def test_many_requests_with_one_key_are_one(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    answers = await asyncio.gather(*[customer.check_out(order, key="once") for _ in range(8)])
    assert {answer.status for answer in answers} == {202}
    assert len({str(answer.body) for answer in answers}) == 1
    assert (await types(customer, order)).count("order.checkout_requested") == 1


async def test_a_refused_checkout_leaves_its_key_free(customer: Customer, admin: Admin) -> None:
    free, product = await admin.adds(price=0), await admin.adds()
    assert (await customer.check_out(await customer.placed(free), key="once")).status == 409
    order = await customer.placed(product)
    assert (await customer.check_out(order, key="once")).status == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "no\ttab"])
async def test_a_bad_key_is_refused(customer: Customer, order: Json, key: str) -> None:
    assert_problem(await customer.check_out(order, key=key), 400)
