"""The worker cancels an order that is not paid in time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.acceptance.customer import Customer

Json = dict[str, Any]
MakeDue = Callable[[Json], Awaitable[None]]


@pytest.fixture
async def make_due(environment: dict[str, str]) -> AsyncIterator[MakeDue]:
    """Lets the order's payment deadline pass."""
    connection = await asyncpg.connect(environment["DB_URL"])

    async def make(order: Json) -> None:
        query = "update order_deadlines set due_at = now() where order_id = $1"
        await connection.execute(query, order["id"])

    yield make
    await connection.close()


async def test_an_unpaid_order_is_cancelled_when_its_time_is_up(
    customer: Customer, product: Json, make_due: MakeDue
) -> None:
    order = await customer.placed(product)
    await make_due(order)
    expired = await customer.wait_until(order, "CANCELLED")
    assert expired["cancelReason"] == "expired"
    answer = await customer.pay(order)
    assert (answer.status, answer.body["detail"]) == (409, "Only CREATED orders can be paid")


async def test_an_order_that_was_paid_in_time_does_not_expire(
    customer: Customer, product: Json, make_due: MakeDue
) -> None:
    order, other = await customer.buys(product), await customer.placed(product)
    await make_due(order)
    await make_due(other)
    await customer.wait_until(other, "CANCELLED")
    assert (await customer.see(order))["status"] == "COMPLETED"
