"""An event must agree with PostgreSQL; one that does not changes nothing."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from app import orders, payments
from app.db import Database
from app.times import now, rfc3339
from app.topics import PaymentFailed, PaymentRequested, PaymentSucceeded
from tests.integration.hops import deliver, new_order, pay, request_payment, status, topics


def told(order_id: UUID, payment_id: object) -> dict[str, Any]:
    return {
        "eventId": str(uuid4()),
        "orderId": str(order_id),
        "sequence": 3,
        "occurredAt": rfc3339(now()),
        "requestId": "a request",
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
