"""Orders: placing and reading them, and what the order-status agent makes of events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from app import idempotency, order_rows
from app.db import Database, Transaction, sql
from app.errors import InvalidInput, NotEnoughStock, OrderNotFound, ProductNotFound, TotalMismatch
from app.lifecycle import OUT_OF_STOCK, Order, Status, shortages
from app.money import MAX_MINOR, to_major
from app.times import now, parse_time, rfc3339
from app.tokens import Identity
from app.topics import (
    InventoryRejected,
    InventoryReserved,
    OrderCancelled,
    OrderCompleted,
    OrderCreated,
    OrderPaid,
    PaymentFailed,
    PaymentSucceeded,
)


@dataclass(frozen=True, slots=True)
class Basket:
    """What a customer wants: pieces by product, and the total (minor units) they expect, if any."""

    pieces: Mapping[UUID, int]
    expected_total: int | None


async def place(
    database: Database,
    user: Identity,
    basket: Basket,
    key: idempotency.Key | None,
    request_id: str,
) -> tuple[dict[str, Any], bool]:
    """Place an order; returns it as clients see it, and whether it is the replay of `key`.

    Raises ProductNotFound, NotEnoughStock, TotalMismatch, InvalidInput (total too large),
    IdempotencyKeyReused, IdempotencyInProgress. Stores nothing when it raises.
    """
    async with database.transaction() as transaction:
        if key and (answer := await idempotency.claim(transaction, key)):
            return answer, True
        order = await _insert(transaction, user, basket)
        if key:
            idempotency.settle(transaction, key, order)
        transaction.publish(_created(order, key, request_id))
    return order, False


async def _products(transaction: Transaction, basket: Basket) -> dict[UUID, Any]:
    """What the basket asks for, all of it there, in one currency."""
    rows = await sql.products_by_ids(transaction.connection, ids=list(basket.pieces))
    products = {row["id"]: row for row in rows}
    if basket.pieces.keys() - products.keys():
        raise ProductNotFound
    if shortages(basket.pieces, {id: row["available"] for id, row in products.items()}):
        raise NotEnoughStock
    if len({row["currency"] for row in rows}) > 1:
        raise InvalidInput.of("#/items", "the products are priced in different currencies")
    return products


async def _insert(transaction: Transaction, user: Identity, basket: Basket) -> dict[str, Any]:
    products = await _products(transaction, basket)
    lines = [(id, pieces, products[id]["price_minor"]) for id, pieces in basket.pieces.items()]
    row = {
        "id": uuid4(),
        "user_id": user.id,
        "customer_email": user.email,
        "total_minor": _total(lines, basket.expected_total),
        "currency": next(iter(products.values()))["currency"],
        "now": now(),
    }
    await sql.insert_order(
        transaction.connection,
        **row,
        product_ids=[line[0] for line in lines],
        quantities=[line[1] for line in lines],
        prices=[line[2] for line in lines],
    )
    fresh = {"status": Status.CREATED, "cancel_reason": None, "version": 1}
    times = {"created_at": row["now"], "updated_at": row["now"]}
    return order_rows.as_json({**row, **fresh, **times}, lines)


def _total(lines: Iterable[tuple[UUID, int, int]], expected: int | None) -> int:
    total = sum(pieces * price for _, pieces, price in lines)
    if total > MAX_MINOR:
        raise InvalidInput.of("#/items", "the order's total is more than 9999999999999.99")
    if expected is not None and expected != total:
        raise TotalMismatch
    return total


def _created(order: dict[str, Any], key: idempotency.Key | None, request_id: str) -> OrderCreated:
    return OrderCreated(
        eventId=str(uuid4()),
        orderId=order["id"],
        sequence=1,
        occurredAt=order["createdAt"],
        requestId=request_id,
        userId=order["userId"],
        totalAmount=order["totalAmount"],
        currency=order["currency"],
        createdAt=order["createdAt"],
        items=order["items"],
        customerEmail=order["customerEmail"],
        idempotencyKey=key.key if key else None,
        fingerprint=key.fingerprint.hex() if key else None,
        keyExpiresAt=rfc3339(key.expires_at) if key else None,
        answer=order if key else None,
    )


async def get(database: Database, order_id: UUID) -> tuple[int, dict[str, Any]]:
    """The order's version, and the order as clients see it. Raises OrderNotFound."""
    async with database.connection() as connection:
        row = await sql.get_order(connection, id=order_id)
    if row is None:
        raise OrderNotFound
    return row["version"], order_rows.from_row(row)


async def page(
    database: Database,
    user_id: UUID,
    status: Status | None,
    place: list[str] | None,
    size: int,
) -> list[tuple[dict[str, Any], list[str]]]:
    """Up to `size` of a user's orders, newest first, behind `place`, each with its own place.

    Raises ValueError when `place` is not one of this list.
    """
    moment, order_id = (parse_time(place[0]), UUID(place[1])) if place else (None, None)
    async with database.connection() as connection:
        rows = await sql.list_orders(
            connection,
            user_id=user_id,
            status=status,
            before=moment,
            before_id=order_id,
            page_size=size,
        )
    found = [order_rows.from_row(row) for row in rows]
    return [(order, [order["createdAt"], order["id"]]) for order in found]


def _summary(order: Order) -> dict[str, Any]:
    return {
        "userId": str(order.user_id),
        "totalAmount": to_major(order.total_minor),
        "currency": order.currency,
    }


def cancel(transaction: Transaction, order: Order, reason: str, request_id: str) -> None:
    """Cancel a locked order that may still be cancelled, and publish it."""
    order.become(Status.CANCELLED, reason)
    transaction.publish(
        OrderCancelled(
            **order_rows.stamp(order, request_id),
            **_summary(order),
            reason=reason,
            customerEmail=order.customer_email,
        )
    )


async def mark_paid(transaction: Transaction, events: Sequence[PaymentSucceeded]) -> None:
    """Captured money makes a CREATED order PAID."""
    orders = await order_rows.lock(transaction, events)
    for event in events:
        order = orders[UUID(event.orderId)]
        if order.may_become(Status.PAID):
            order.become(Status.PAID)
            transaction.publish(
                OrderPaid(
                    **order_rows.stamp(order, event.requestId),
                    **_summary(order),
                    paymentId=event.paymentId,
                )
            )


async def cancel_unpaid(transaction: Transaction, events: Sequence[PaymentFailed]) -> None:
    """A failed payment cancels an order that is still CREATED."""
    orders = await order_rows.lock(transaction, events)
    for event in events:
        order = orders[UUID(event.orderId)]
        if order.status is Status.CREATED:
            cancel(transaction, order, event.reason, event.requestId)


async def complete(transaction: Transaction, events: Sequence[InventoryReserved]) -> None:
    """Reserved stock completes a PAID order."""
    orders = await order_rows.lock(transaction, events)
    for event in events:
        order = orders[UUID(event.orderId)]
        if order.may_become(Status.COMPLETED):
            order.become(Status.COMPLETED)
            transaction.publish(
                OrderCompleted(
                    **order_rows.stamp(order, event.requestId),
                    **_summary(order),
                    customerEmail=order.customer_email,
                )
            )


async def cancel_unstocked(transaction: Transaction, events: Sequence[InventoryRejected]) -> None:
    """Missing stock cancels a PAID order."""
    orders = await order_rows.lock(transaction, events)
    for event in events:
        order = orders[UUID(event.orderId)]
        if order.status is Status.PAID:
            cancel(transaction, order, OUT_OF_STOCK, event.requestId)
