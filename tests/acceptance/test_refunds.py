"""Money that an order does not keep is refunded at Stripe once, whatever Stripe answers."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import eventually
from tests.acceptance.conftest import Metric
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.stripe_stand_in import StripeStandIn
from tests.acceptance.test_cache import read_from_redis
from tests.conftest import run_command, run_in_vain

Json = dict[str, Any]
MANUAL = (Path(__file__).parents[2] / "docs/operations.md").read_text()


async def refunded(customer: Customer, order: Json) -> list[str]:
    """Return the order's events once its money is refunded."""

    async def types() -> list[str]:
        return [event["type"] for event in await customer.timeline(order)]

    return await eventually(types, lambda seen: "payment.refunded" in seen)


async def test_money_that_came_after_the_cancel_goes_back_once(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    ready = await customer.ready_checkout(order)
    await stripe.hold()
    await stripe.press(ready)
    await customer.cancel(order)
    await stripe.deliver(backwards=True)
    await stripe.hold(False)
    assert (await refunded(customer, order))[2:] == [
        *("order.cancelled", "payment.refund_requested", "payment.refunded")
    ]
    assert await stripe.counts(order) == (1, 1, 1)


async def test_a_cancel_after_the_payment_gives_the_money_back(
    customer: Customer, order: Json, product: Json, stripe: StripeStandIn
) -> None:
    await stripe.press(await customer.ready_checkout(order))
    answer = await customer.cancel(order)
    if answer.status == 409:
        # It had been completed already.
        await customer.wait_until(order, "COMPLETED")
        assert await stripe.counts(order) == (1, 1, 0)
        return
    assert answer.body["status"] == "CANCELLED"
    await refunded(customer, order)
    assert await stripe.counts(order) == (1, 1, 1)
    await eventually(lambda: customer.available(product), lambda pieces: pieces == 10)


async def test_missing_stock_gives_the_money_back(
    customer: Customer, stranger: Customer, product: Json, stripe: StripeStandIn
) -> None:
    order = await customer.placed(product, 10)
    ready = await customer.ready_checkout(order)
    await stranger.buys(product)
    await stripe.press(ready)
    assert (await customer.wait_until(order, "CANCELLED"))["cancelReason"] == "Out of stock"
    await refunded(customer, order)
    assert await stripe.counts(order) == (1, 1, 1)
    assert await customer.available(product) == 9


async def test_a_person_s_refund_of_a_completed_order_is_told(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await stripe.press(await customer.ready_checkout(order))
    await customer.wait_until(order, "COMPLETED")
    await stripe.refund_by_hand(order, 99800)
    await refunded(customer, order)
    assert (await customer.see(order))["status"] == "COMPLETED"
    assert await stripe.counts(order) == (1, 1, 1)


async def cancelled_with_money(customer: Customer, order: Json, stripe: StripeStandIn) -> None:
    """Cancel the order before its payment is reported, so that the money has to be refunded."""
    ready = await customer.ready_checkout(order)
    await stripe.hold()
    await stripe.press(ready)
    await customer.cancel(order)
    await stripe.hold(False)
    await stripe.deliver()


async def test_a_refund_that_stripe_refuses_is_tried_again(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await stripe.whims(refunds="refuse")
    await cancelled_with_money(customer, order, stripe)
    query = (
        "select count(*) as refused from refunds r join payments p on p.id = r.payment_id"
        " where p.order_id = $1 and refused_reason is not null"
    )
    await eventually(lambda: stripe.row(query, order["id"]), lambda row: row["refused"] == 1)
    await stripe.whims()
    await stripe.hurry()
    await refunded(customer, order)
    assert await stripe.counts(order) == (1, 1, 1)


async def failed_refund(customer: Customer, order: Json, stripe: StripeStandIn) -> str:
    """Let Stripe refuse the refund of a cancelled order for good; return the payment's id."""
    await stripe.whims(refunds="refuse")
    await cancelled_with_money(customer, order, stripe)

    async def payment() -> Any:
        await stripe.hurry()
        return await stripe.row("select id, status from payments where order_id = $1", order["id"])

    return str((await eventually(payment, lambda row: row["status"] == "REFUND_FAILED"))["id"])


async def test_a_refund_that_is_refused_too_often_waits_for_an_operator(
    customer: Customer,
    order: Json,
    stripe: StripeStandIn,
    environment: dict[str, str],
    metric: Metric,
) -> None:
    failed = await failed_refund(customer, order, stripe)

    async def awaited() -> str:
        explained = (await customer.ask("GET", f"/api/orders/{order['id']}/explain")).body
        return str(explained["waitingFor"]["what"])

    # The last event is noted as sent a moment after it is sent.
    await eventually(awaited, lambda what: what == "an operator, to refund the money")
    await eventually(lambda: metric("orders_failed_refunds"), lambda count: count == 1)
    await stripe.whims()
    run_in_vain(environment, "retry-refund", order["id"])
    assert "requested again" in run_command(environment, "retry-refund", failed)
    await refunded(customer, order)
    assert await stripe.counts(order) == (1, 1, 1)


async def test_an_order_whose_refund_was_settled_by_the_command_is_shown_as_it_is(
    customer: Customer,
    order: Json,
    stripe: StripeStandIn,
    environment: dict[str, str],
    metric: Metric,
) -> None:
    """Of a lost dispute no event comes that an agent reads, so none evicts what Redis holds."""
    payment = await failed_refund(customer, order, stripe)
    before = (await read_from_redis(metric, customer, order)).body["version"]
    (statement,) = re.findall("insert into provider_events .*?;", MANUAL, re.DOTALL)
    await stripe.row(statement.replace("PAYMENT", payment))
    assert "nothing of" in run_command(environment, "retry-refund", payment)
    assert (await customer.timeline(order))[-1]["type"] == "payment.refunded"
    assert (await customer.see(order))["version"] == before + 1


@pytest.mark.parametrize("by_hand", [40000, 99800])
async def test_what_a_person_has_refunded_without_a_webhook_is_not_refunded_again(
    customer: Customer, order: Json, stripe: StripeStandIn, by_hand: int
) -> None:
    ready = await customer.ready_checkout(order)
    await stripe.hold()
    await stripe.press(ready)
    paid = [event["id"] for event in (await stripe.of(order))["events"] if event["held"]]
    await stripe.refund_by_hand(order, by_hand)
    await stripe.hold(False)
    await customer.cancel(order)
    await stripe.deliver(paid)

    async def payment() -> Any:
        await stripe.hurry()
        query = "select status, refunded_minor from payments where order_id = $1"
        return await stripe.row(query, order["id"])

    row = await eventually(payment, lambda found: found["status"] == "REFUNDED")
    assert row["refunded_minor"] == 99800
    told = [event["type"] for event in await customer.timeline(order)]
    assert set(await stripe.deliver()) == {200}, "the webhooks come after all"
    assert [event["type"] for event in await customer.timeline(order)] == told
    refunds = [one["amount"] for one in (await stripe.of(order))["refunds"]]
    assert refunds == [by_hand, 99800 - by_hand][: 1 + (by_hand < 99800)]


async def test_a_refund_that_comes_back_is_made_again(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await stripe.whims(refunds="fail")
    await cancelled_with_money(customer, order, stripe)

    async def failed() -> Any:
        return [one["status"] for one in (await stripe.of(order))["refunds"]]

    await eventually(failed, lambda found: found == ["failed"])
    await stripe.whims()

    async def again() -> Any:
        await stripe.hurry()
        return await failed()

    await eventually(again, lambda found: found == ["failed", "succeeded"])
    await refunded(customer, order)


async def test_a_checkout_whose_answer_is_lost_is_opened_once(
    customer: Customer, order: Json, stripe: StripeStandIn
) -> None:
    await stripe.fault("cut", "/v1/checkout/sessions", calls=2)
    await stripe.press(await customer.ready_checkout(order))
    await customer.wait_until(order, "COMPLETED")
    assert await stripe.counts(order) == (1, 1, 0)


@pytest.mark.parametrize("kind", ["error", "broken"])
async def test_a_refund_is_made_once_however_stripe_answers(
    customer: Customer, order: Json, stripe: StripeStandIn, kind: str
) -> None:
    await stripe.fault(kind, "/v1/refunds", calls=1 if kind == "broken" else 2)
    await cancelled_with_money(customer, order, stripe)
    await refunded(customer, order)
    await stripe.come_to_rest()
    assert await stripe.counts(order) == (1, 1, 1)
    assert (await refunded(customer, order)).count("payment.refunded") == 1


async def test_a_slow_stripe_holds_up_no_other_order(
    customer: Customer, admin: Admin, order: Json, stripe: StripeStandIn
) -> None:
    """An answer comes after 30 s to a call that timed out after 10 s and was retried."""
    product = await admin.adds(quantity=100)
    await stripe.fault("slow", "/v1/checkout/sessions", seconds=30)
    await customer.check_out(order)

    async def is_asked() -> Any:
        return (await stripe.of(order))["sessions"]

    await eventually(is_asked, bool)
    await asyncio.gather(*[customer.buys(product) for _ in range(10)])
    other = await customer.placed(product)
    await stripe.press(await customer.ready_checkout(other))
    await customer.wait_until(other, "COMPLETED")
    assert (await customer.checkout(order))["status"] == "REQUESTED"
    await stripe.press(await customer.ready_checkout(order))
    await customer.wait_until(order, "COMPLETED")
    assert await stripe.counts(order) == (1, 1, 0)
