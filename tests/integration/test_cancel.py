"""An order is cancelled at once, and what was reserved or captured for it is undone once."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from app import catalogue, orders, payments, stock
from app.db.pools import Database
from app.db.rows import IdempotencyKey
from app.db.transaction import Transaction
from app.errors import Forbidden, NotCancellable, OrderNotFound, StaleVersion
from app.identity.tokens import Identity
from app.times import now
from app.topics import InventoryReserved, OrderCancelled, OrderPaid, PaymentRequested
from tests.integration.hops import (
    ADMIN,
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


async def available(database: Database, product_id: UUID) -> int:
    _, product = await catalogue.get(database, product_id)
    return int(product["availableQuantity"])


async def release(database: Database, *order_ids: UUID) -> None:
    await deliver(database, stock.release, OrderCancelled, *order_ids)


async def test_a_created_order_is_cancelled_by_its_owner(database: Database) -> None:
    order_id = await new_order(database)
    order = await cancel(database, order_id)
    assert (order["status"], order["version"]) == ("CANCELLED", 2)
    assert order["cancelReason"] == "Cancelled by the customer"
    assert (await orders.get(database, order_id))[1] == order
    assert await topics(database, order_id) == ["order.created", "order.cancelled"]


async def test_an_administrator_cancels_any_order(database: Database) -> None:
    order_id = await new_order(database)
    order = await cancel(database, order_id, user=ADMIN)
    assert order["cancelReason"] == "Cancelled by an administrator"


async def test_a_reason_that_is_given_is_told(database: Database) -> None:
    order_id = await new_order(database)
    assert (await cancel(database, order_id, reason="Too late"))["cancelReason"] == "Too late"


async def test_what_may_not_be_cancelled_stays_as_it_is(database: Database) -> None:
    order_id = await new_order(database)
    with pytest.raises(OrderNotFound):
        await cancel(database, uuid4())
    with pytest.raises(Forbidden):
        await cancel(database, order_id, user=Identity(uuid4(), None, "USER"))
    with pytest.raises(StaleVersion):
        await cancel(database, order_id, versions=frozenset({7}))
    assert await status(database, order_id) == "CREATED"


async def test_an_order_that_has_ended_is_not_cancellable(database: Database) -> None:
    product = await add_product(database)
    done, gone = await order_of(database, {product: 1}), await order_of(database, {product: 1})
    await pay(database, done)
    await reserve(database, done)
    await deliver(database, orders.complete, InventoryReserved, done)
    await cancel(database, gone)
    for order_id in (done, gone):
        with pytest.raises(NotCancellable):
            await cancel(database, order_id)


async def test_the_same_key_cancels_once_and_answers_alike(database: Database) -> None:
    order_id = await new_order(database)
    key = IdempotencyKey(uuid4(), "a key", b"fingerprint", now() + timedelta(hours=1))
    first = await cancel(database, order_id, key=key)
    assert await cancel(database, order_id, key=key) == first
    assert await topics(database, order_id) == ["order.created", "order.cancelled"]


async def test_a_cancel_beats_a_payment_that_is_pending(database: Database) -> None:
    order_id = await new_order(database)
    await request_payment(database, order_id)
    await cancel(database, order_id)
    await deliver(database, payments.capture, PaymentRequested, order_id)
    await deliver(database, payments.request_refunds, OrderCancelled, order_id)
    assert await topics(database, order_id) == [
        *("order.created", "order.payment_requested", "order.cancelled")
    ]


async def test_captured_money_is_refunded(database: Database) -> None:
    order_id = await new_order(database)
    await pay(database, order_id)
    await cancel(database, order_id)
    await deliver(database, payments.request_refunds, OrderCancelled, order_id)
    assert (await topics(database, order_id))[-2:] == [
        *("order.cancelled", "payment.refund_requested")
    ]


async def test_an_order_that_is_cancelled_before_inventory_looks_reserves_nothing(
    database: Database,
) -> None:
    product = await add_product(database)
    order_id = await order_of(database, {product: 4})
    await pay(database, order_id)
    await cancel(database, order_id)
    await release(database, order_id)
    await reserve(database, order_id)
    assert await available(database, product) == 10
    assert "inventory.reserved" not in await topics(database, order_id)


async def test_a_reservation_is_given_back_once_however_often_it_is_told(
    database: Database,
) -> None:
    product, other = await add_product(database), await add_product(database)
    order_id = await order_of(database, {product: 4, other: 1})
    kept = await order_of(database, {product: 3})
    await pay(database, order_id, kept)
    await reserve(database, order_id, kept)
    assert await available(database, product) == 3
    await cancel(database, order_id)
    await deliver(database, orders.complete, InventoryReserved, order_id)
    assert await status(database, order_id) == "CANCELLED"
    for _ in range(3):
        await release(database, order_id)
    assert [await available(database, id) for id in (product, other)] == [7, 10]
    await reserve(database, order_id)
    assert await available(database, product) == 7, "what was released is not reserved again"


async def test_a_rejected_order_has_nothing_to_give_back(database: Database) -> None:
    product = await add_product(database)
    greedy, first = await order_of(database, {product: 9}), await order_of(database, {product: 9})
    await pay(database, first, greedy)
    await reserve(database, first)
    await reserve(database, greedy)
    await cancel(database, greedy)
    await release(database, greedy)
    assert await available(database, product) == 1


async def test_products_are_evicted_also_by_a_repeated_reservation_or_release(
    database: Database,
) -> None:
    """The worker that has committed may have died before it evicted them."""
    product = await add_product(database)
    order_id = await order_of(database, {product: 4})
    await pay(database, order_id)
    left: list[dict[UUID, int]] = []

    async def note(transaction: Transaction) -> None:
        left.append(transaction.product_versions)

    database.after_commit = [note]
    try:
        await reserve(database, order_id)
        await reserve(database, order_id)
        assert left == [{product: 2}, {product: 2}]
        await cancel(database, order_id)
        left.clear()
        await release(database, order_id)
        await release(database, order_id)
        assert left == [{product: 3}, {product: 3}]
    finally:
        database.after_commit = []


async def test_cancels_races_with_reservations_and_every_piece_is_accounted_for(
    database: Database,
) -> None:
    """Cancel, reserve, complete and release at once: available is stocked minus reserved."""
    product = await add_product(database, quantity=1000)
    order_ids = [await order_of(database, {product: 1 + n % 3}) for n in range(20)]
    await pay(database, *order_ids)

    async def cancel_some() -> None:
        for order_id in order_ids[::2]:
            await cancel(database, order_id)
            await release(database, order_id)

    async def take() -> None:
        for order_id in order_ids:
            await deliver(database, stock.reserve, OrderPaid, order_id)

    await asyncio.gather(cancel_some(), take())
    await release(database, *order_ids[::2])
    async with database.connection() as connection:
        reserved = await connection.fetchval(
            """
            select sum(quantity) from order_items join reservations using (order_id)
            where outcome = 'RESERVED' and order_id = any($1)
            """,
            order_ids,
        )
    assert reserved == sum(1 + n % 3 for n in range(1, 20, 2))
    assert await available(database, product) == 1000 - reserved
