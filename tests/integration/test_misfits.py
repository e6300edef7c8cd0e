"""An event that does not agree with PostgreSQL, or comes again or too late, changes nothing."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from app import orders, payments
from app.db.pools import Database
from app.payments import PayOrder
from app.times import now, rfc3339
from app.topics import (
    InventoryRejected,
    InventoryReserved,
    PaymentFailed,
    PaymentRequested,
    PaymentSucceeded,
)
from tests.integration.hops import (
    ANN,
    add_product,
    cancel,
    deliver,
    new_order,
    order_of,
    pay,
    request_payment,
    reserve,
    status,
    topics,
)


def said(order_id: UUID) -> dict[str, Any]:
    return {
        "eventId": str(uuid4()),
        "orderId": str(order_id),
        "sequence": 3,
        "occurredAt": rfc3339(now()),
        "requestId": "a request",
    }


def told(order_id: UUID, payment_id: object) -> dict[str, Any]:
    return {
        **said(order_id),
        "paymentId": str(payment_id),
        "provider": "internal",
        "amount": 99.99,
        "currency": "PLN",
    }


async def payment_of(database: Database, order_id: UUID) -> UUID:
    async with database.connection() as connection:
        query = "select id from payments where order_id = $1"
        return UUID(str(await connection.fetchval(query, order_id)))


@pytest.fixture
async def pending(database: Database) -> UUID:
    """An order whose customer has asked to pay it."""
    order_id = await new_order(database)
    await request_payment(database, order_id)
    return order_id


@pytest.mark.parametrize("whose", ["nobody", "this", "another"])
async def test_only_captured_money_of_the_order_makes_it_paid(
    database: Database, pending: UUID, whose: str
) -> None:
    other = await new_order(database)
    await pay(database, other)
    payment = {
        "nobody": uuid4(),
        "this": await payment_of(database, pending),
        "another": await payment_of(database, other),
    }
    async with database.transaction() as transaction:
        stray = PaymentSucceeded(**told(pending, payment[whose]))
        await orders.mark_paid(transaction, [stray])
    assert await status(database, pending) == "CREATED"
    assert await topics(database, pending) == ["order.created", "order.payment_requested"]
    await deliver(database, payments.capture, PaymentRequested, pending)
    await deliver(database, orders.mark_paid, PaymentSucceeded, pending)
    assert await status(database, pending) == "PAID"


@pytest.mark.parametrize("is_known", [False, True])
async def test_only_a_payment_that_failed_cancels(
    database: Database, pending: UUID, is_known: bool
) -> None:
    payment = await payment_of(database, pending) if is_known else uuid4()
    async with database.transaction() as transaction:
        stray = PaymentFailed(**told(pending, payment), reason="a whim")
        await orders.cancel_unpaid(transaction, [stray])
    assert await status(database, pending) == "CREATED"


async def test_only_inventory_itself_decides_on_a_paid_order(database: Database) -> None:
    """Whoever may write to the topics could complete an order whose pieces nobody has reserved."""
    product = await add_product(database)
    ahead, short, undecided = [await order_of(database, {product: 10}) for _ in range(3)]
    await pay(database, ahead, short, undecided)
    await reserve(database, ahead, short)
    async with database.transaction() as transaction:
        stray = [InventoryReserved(**said(order_id), items=[]) for order_id in (short, undecided)]
        await orders.complete(transaction, stray)
    async with database.transaction() as transaction:
        stray = [
            InventoryRejected(**said(order_id), shortages=[]) for order_id in (ahead, undecided)
        ]
        await orders.cancel_unstocked(transaction, stray)
    three = (ahead, short, undecided)
    assert [await status(database, order_id) for order_id in three] == ["PAID"] * 3
    await reserve(database, undecided)
    await deliver(database, orders.complete, InventoryReserved, ahead)
    await deliver(database, orders.cancel_unstocked, InventoryRejected, short, undecided)
    ends = ["COMPLETED", "CANCELLED", "CANCELLED"]
    assert [await status(database, order_id) for order_id in three] == ends


async def test_an_event_that_comes_again_changes_nothing(database: Database) -> None:
    """Its mark may be lost: the order's status alone tells that it was handled."""
    product, wrong = await add_product(database), await new_order(database)
    done, short = [await order_of(database, {product: 10}) for _ in range(2)]
    await pay(database, done, short)
    await reserve(database, done, short)
    await payments.request_payment(database, PayOrder(ANN, wrong, 1, None, None, "a request"))
    await deliver(database, payments.capture, PaymentRequested, wrong)
    steps = (
        (orders.complete, InventoryReserved, done),
        (orders.cancel_unstocked, InventoryRejected, short),
        (orders.cancel_unpaid, PaymentFailed, wrong),
    )
    for handle, record, order_id in steps:
        await deliver(database, handle, record, order_id)
    ends = [await topics(database, order_id) for order_id in (done, short, wrong)]
    assert [end[-1] for end in ends] == ["order.completed", "order.cancelled", "order.cancelled"]
    for handle, record, order_id in steps:
        await deliver(database, handle, record, order_id)
    await deliver(database, orders.mark_paid, PaymentSucceeded, done, short)
    assert [await topics(database, order_id) for order_id in (done, short, wrong)] == ends


async def test_an_event_that_comes_after_a_cancellation_changes_nothing(
    database: Database, pending: UUID
) -> None:
    product = await add_product(database)
    first, short = [await order_of(database, {product: 10}) for _ in range(2)]
    await pay(database, first, short)
    await reserve(database, first, short)
    await deliver(database, payments.capture, PaymentRequested, pending)
    for order_id in (pending, short):
        await cancel(database, order_id)
    ends = [await topics(database, order_id) for order_id in (pending, short)]
    await deliver(database, orders.mark_paid, PaymentSucceeded, pending)
    await deliver(database, orders.cancel_unstocked, InventoryRejected, short)
    assert [await topics(database, order_id) for order_id in (pending, short)] == ends
