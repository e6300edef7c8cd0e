"""What an order waits for, explained from real rows, and its parked messages."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from app import orders, payments, stock
from app.db.pools import Database
from app.errors import OrderNotFound, TooManyAttempts
from app.explain import explain
from app.money.ledger import Fact
from app.parked import park
from app.stripe.api import Checkout, Session
from app.stripe.errors import ProviderAway
from app.times import rfc3339
from app.topics import (
    InventoryReserved,
    OrderCancelled,
    PaymentRequested,
    PaymentSucceeded,
    RefundRequested,
)
from tests.integration.hops import (
    ANN,
    add_product,
    cancel,
    deliver,
    new_order,
    order_of,
    request_payment,
    reserve,
)
from tests.integration.money_course import TOTAL, course, ready
from tests.integration.stripe_books import Books

DELAYED = "checkout.session.completed"
"""Without a fact: the customer has chosen a delayed payment method."""
FAILED = """
    insert into payments
        (id, order_id, provider, amount_minor, currency, status, created_at, updated_at)
    select gen_random_uuid(), $1::uuid, 'stripe', 9999, 'PLN', 'FAILED', now(), now()
    from generate_series(1, 20)
"""
OLDER = "update payments set created_at = created_at - interval '10 minutes' where order_id = $1"


async def publish_all(database: Database) -> None:
    """Mark all events as published, as the relay does."""
    async with database.connection() as connection:
        await connection.execute("update outbox set published_at = now()")


async def waits_for(database: Database, order_id: UUID) -> str | None:
    await publish_all(database)
    waiting = (await explain(database, order_id))["waitingFor"]
    return waiting and waiting["what"]


async def test_an_order_says_at_each_step_what_comes_next(database: Database) -> None:
    order_id = await new_order(database)
    assert await waits_for(database, order_id) == "payment by the customer"
    await request_payment(database, order_id)
    assert await waits_for(database, order_id) == "the payment agent, to capture the money"
    await deliver(database, payments.capture, PaymentRequested, order_id)
    assert await waits_for(database, order_id) == "the order-status agent, to mark it paid"
    await deliver(database, orders.mark_paid, PaymentSucceeded, order_id)
    assert await waits_for(database, order_id) == "the inventory agent, to reserve the stock"
    await reserve(database, order_id)
    assert await waits_for(database, order_id) == "the order-status agent, to complete it"
    await deliver(database, orders.complete, InventoryReserved, order_id)
    assert await waits_for(database, order_id) is None


async def test_attempts_of_more_than_ten_minutes_ago_keep_nobody_from_another(
    database: Database,
) -> None:
    one = await course(database)
    async with database.connection() as connection:
        await connection.execute(FAILED, one.order_id)
    assert "checkout" not in (await explain(database, one.order_id))["actions"]
    with pytest.raises(TooManyAttempts):
        await one.check_out()
    async with database.connection() as connection:
        await connection.execute(OLDER, one.order_id)
    assert "checkout" in (await explain(database, one.order_id))["actions"]
    await one.check_out()
    assert [row["status"] for row in await one.payments()] == ["FAILED"] * 20 + ["PENDING"]


async def test_an_order_whose_money_failed_at_stripe_waits_for_its_cancel(
    database: Database,
) -> None:
    """Stripe tells of a session that nobody here has asked for."""
    one = await course(database)
    books = Books(one.order_id, TOTAL, "PLN")
    books.fail()
    await one.arrive(books.reports[0])
    assert await waits_for(database, one.order_id) == "the order-status agent, to cancel it"


async def test_a_cancelled_order_waits_until_all_is_given_back(database: Database) -> None:
    order_id = await new_order(database)
    await request_payment(database, order_id)
    await deliver(database, payments.capture, PaymentRequested, order_id)
    await deliver(database, orders.mark_paid, PaymentSucceeded, order_id)
    await reserve(database, order_id)
    await cancel(database, order_id)
    assert await waits_for(database, order_id) == "the payment agent, to request the refund"
    await deliver(database, payments.request_refunds, OrderCancelled, order_id)
    assert await waits_for(database, order_id) == "the payment agent, to refund the money"
    await deliver(database, payments.refund, RefundRequested, order_id)
    assert await waits_for(database, order_id) == "the inventory agent, to release the stock"
    await deliver(database, stock.release, OrderCancelled, order_id)
    assert await waits_for(database, order_id) is None


@pytest.mark.usefixtures("nothing_due")
async def test_an_order_whose_checkout_has_ended_waits_for_stripe(database: Database) -> None:
    one, _ = await ready(database)
    assert await waits_for(database, one.order_id) == "payment by the customer"
    await one.fetch("update payments set expires_at = now() where order_id = $1")
    what = "Stripe, to tell what became of the checkout"
    assert await waits_for(database, one.order_id) == what
    (payment,) = await one.payments()
    since = (await explain(database, one.order_id))["waitingFor"]["since"]
    assert since == rfc3339(payment["expires_at"])


@pytest.mark.usefixtures("nothing_due")
async def test_an_order_whose_payment_is_delayed_waits_until_stripe_has_it(
    database: Database,
) -> None:
    one, books = await ready(database)
    books.fail()
    (failed,) = books.reports
    completed = replace(failed, event_id="evt_delayed", type=DELAYED, fact=None)
    await one.arrive(completed)
    await one.fetch("update payments set expires_at = now() where order_id = $1")
    what = "Stripe, to receive the payment, which is on its way"
    assert await waits_for(database, one.order_id) == what
    since = (await explain(database, one.order_id))["waitingFor"]["since"]
    assert completed.created and since == rfc3339(completed.created)
    await one.arrive(failed)
    assert await waits_for(database, one.order_id) == "the order-status agent, to cancel it"


@pytest.mark.usefixtures("nothing_due")
async def test_a_cancelled_order_waits_until_its_checkout_is_closed(database: Database) -> None:
    one, books = await ready(database)
    await one.cancel()
    assert await waits_for(database, one.order_id) == "the payment agent, to void the attempt"
    await one.handle_all()
    assert await waits_for(database, one.order_id) == "Stripe, to close the checkout"
    assert (await explain(database, one.order_id))["nextTimer"]["kind"] == "closing"
    assert await one.call() == 1
    assert (await waits_for(database, one.order_id), books.status) == (None, "expired")
    assert (await explain(database, one.order_id))["nextTimer"] is None


@pytest.mark.usefixtures("nothing_due")
async def test_a_cancelled_order_waits_for_a_checkout_that_stripe_may_have_opened(
    database: Database,
) -> None:
    one = await course(database)
    await one.check_out()
    await one.handle_all()
    create = one.bank.create_session

    async def lose_the_answer(wanted: Checkout) -> Session:
        await create(wanted)
        raise ProviderAway("the answer is lost")

    one.bank.create_session = lose_the_answer  # type: ignore[method-assign]
    assert await one.call() == 1
    await one.cancel()
    await one.handle_all()
    assert await waits_for(database, one.order_id) == "Stripe, to close the checkout"
    assert (await explain(database, one.order_id))["nextTimer"]["kind"] == "closing"
    one.bank.create_session = create  # type: ignore[method-assign]
    assert (await one.call(), await one.call()) == (1, 1), "it is opened and closed"
    assert await waits_for(database, one.order_id) is None


@pytest.mark.usefixtures("nothing_due")
async def test_a_refund_that_has_succeeded_is_no_timer_of_one_that_has_not(
    database: Database,
) -> None:
    one, books = await ready(database)
    books.pay()
    books.tell(Fact.refund("re_by_hand", 99, "pending"))
    for report in books.reports:
        await one.arrive(report)
    await one.handle_all()
    assert (await explain(database, one.order_id))["nextTimer"]["kind"] == "refund"
    assert await one.call() == 1
    assert await waits_for(database, one.order_id) == "Stripe, to refund the money"
    assert (await explain(database, one.order_id))["nextTimer"] is None


async def test_an_event_that_is_not_sent_yet_is_waited_for_first(database: Database) -> None:
    order_id = await new_order(database)
    await request_payment(database, order_id)
    told = await explain(database, order_id)
    assert told["waitingFor"]["what"] == "the relay, to send order.created"
    async with database.connection() as connection:
        await connection.execute("update outbox set published_at = now() where sequence = 1")
    told = await explain(database, order_id)
    _, order = await orders.get(database, order_id)
    assert told["waitingFor"] == {
        "what": "the relay, to send order.payment_requested",
        "since": order["updatedAt"],
    }


async def test_an_unpaid_order_tells_its_owner_its_timer_and_what_may_be_done(
    database: Database,
) -> None:
    order_id = await new_order(database)
    told = await explain(database, order_id)
    assert (told["orderId"], told["userId"]) == (str(order_id), str(ANN.id))
    assert (told["status"], told["actions"]) == ("CREATED", ["pay", "checkout", "cancel"])
    assert told["nextTimer"]["kind"] == "expiry"
    assert told["parked"] == []
    free = await order_of(database, {await add_product(database, price_minor=0): 1})
    assert (await explain(database, free))["actions"] == ["pay", "cancel"]


async def test_an_unknown_order_is_not_found(database: Database) -> None:
    with pytest.raises(OrderNotFound):
        await explain(database, uuid4())


def message(key: bytes | None, offset: int = 7, **changes: Any) -> Any:
    """Return a message as Faust provides it, with a unique topic."""
    whole = {"topic": f"topic-{uuid4()}", "partition": 3, "offset": offset, "key": key}
    return SimpleNamespace(
        **{**whole, "value": b"\xff\x00", "headers": [("h", b"\xff")], **changes}
    )


async def test_a_parked_message_is_told_with_its_order_once(database: Database) -> None:
    order_id = await new_order(database)
    parked = message(str(order_id).encode())
    for _ in range(2):
        await park(database, parked, "stock.reserve", "it \0 is \ud800 bad", 2)
    await park(database, parked, "payments.capture", "it is bad here too", 1)
    other, first = (await explain(database, order_id))["parked"]
    assert other["handler"] == "payments.capture"
    assert first.pop("parkedAt").endswith("Z")
    assert UUID(first.pop("id"))
    assert first == {
        "handler": "stock.reserve",
        "topic": parked.topic,
        "partition": 3,
        "offset": 7,
        "state": "PARKED",
        "error": "it \N{REPLACEMENT CHARACTER} is ? bad",
        "attempts": 2,
    }


@pytest.mark.parametrize("key", [None, b"", b"key", b"\xff\xfe"])
async def test_a_message_of_no_order_is_parked_as_it_came(
    database: Database, key: bytes | None
) -> None:
    parked = message(key, value=None)
    await park(database, parked, "stock.reserve", "no", 1)
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "select * from parked_messages where topic = $1", parked.topic
        )
    assert (row["order_id"], row["key"], row["value"]) == (None, key, None)
