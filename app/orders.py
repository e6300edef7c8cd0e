"""Orders: placing and reading them, and what the order-status agent makes of events."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from app import idempotency, order_rows, placing
from app.config import ORDER_TTL_SECONDS
from app.db import Database
from app.errors import Forbidden, NotCancellable, OrderNotFound, Problem, StaleVersion
from app.lifecycle import (
    CANCELLED_BY_ADMIN,
    CANCELLED_BY_OWNER,
    EXPIRED,
    OUT_OF_STOCK,
    Order,
    PaymentStatus,
    Status,
    cancellable,
)
from app.money.amounts import to_major
from app.money.ledger import CHECKOUT_EXPIRED
from app.money.rows import LockedPayment, lock_with_payments
from app.placing import Basket
from app.queries import sql
from app.times import parse_time
from app.tokens import Identity
from app.topics import (
    InventoryRejected,
    InventoryReserved,
    OrderCancelled,
    OrderCompleted,
    OrderPaid,
    PaymentFailed,
    PaymentSucceeded,
)
from app.transaction import Transaction


class Placing(NamedTuple):
    """A request to place an order."""

    user: Identity
    basket: Basket
    key: idempotency.Key | None
    request_id: str
    ttl_seconds: int = ORDER_TTL_SECONDS
    """How long it may stay unpaid."""


async def place(database: Database, wanted: Placing) -> tuple[dict[str, Any], bool]:
    """Place an order; returns it as clients see it, and whether it is the replay of its key.

    Raises ProductNotFound, NotEnoughStock, TotalMismatch, InvalidInput (total too large),
    IdempotencyKeyReused, IdempotencyInProgress. Stores nothing when it raises.
    """
    async with database.transaction("orders.place") as transaction:
        if wanted.key and (answer := await idempotency.claim(transaction, wanted.key)):
            return answer, True
        products = await placing.catalogue(transaction, [wanted.basket])
        order = _insert(transaction, wanted, products)
    return order, False


async def place_together(
    database: Database, wanted: Sequence[Placing]
) -> list[tuple[dict[str, Any], bool] | None]:
    """Place those orders that nothing is special about, in one statement; None for the others.

    Raises one of MOVED where another request is quicker.
    """
    keys = [one.key for one in wanted]
    return await idempotency.try_together(
        database, keys, partial(_place_those, database, wanted, keys)
    )


async def _place_those(
    database: Database,
    wanted: Sequence[Placing],
    keys: idempotency.Keys,
    free: idempotency.Keys,
) -> list[tuple[dict[str, Any], bool] | None]:
    placed: dict[int, dict[str, Any]] = {}
    async with database.single_statement("orders.place_together") as transaction:
        products = await placing.catalogue(transaction, [one.basket for one in wanted])
        for n in idempotency.may_go_on(keys, free):
            with suppress(Problem):
                placed[n] = _insert(transaction, wanted[n], products)
    return [(placed[n], False) if n in placed else None for n in range(len(wanted))]


def _insert(
    transaction: Transaction, wanted: Placing, products: Mapping[UUID, Any]
) -> dict[str, Any]:
    priced = placing.price(wanted.user, wanted.basket, products)
    order = placing.insert(transaction, priced, wanted.ttl_seconds)
    if wanted.key:
        idempotency.store_answer(transaction, wanted.key, order)
    transaction.publish(placing.created(order, wanted.key, wanted.request_id))
    return order


async def request_cancel(
    database: Database,
    user: Identity,
    order_id: UUID,
    reason: str | None,
    versions: frozenset[int] | None,
    key: idempotency.Key | None,
    request_id: str,
) -> dict[str, Any]:
    """Cancel a CREATED or PAID order at once, for its owner or an administrator; the order.

    Without a `reason` the order says who cancelled it. What was reserved or captured, and a payment
    that is still pending, is undone in the pipeline. Raises OrderNotFound, Forbidden, StaleVersion
    (unless `versions` is None or has the order's), NotCancellable, IdempotencyKeyReused,
    IdempotencyInProgress.
    """
    async with database.transaction("orders.request_cancel") as transaction:
        if key and (answer := await idempotency.claim(transaction, key)):
            return answer
        order, row = await order_rows.lock_one(transaction, order_id)
        _require_cancellable(order, user, versions)
        by_whom = CANCELLED_BY_OWNER if order.user_id == user.id else CANCELLED_BY_ADMIN
        cancel(transaction, order, reason or by_whom, request_id)
        answer = order_rows.changed(row, order)
        if key:
            idempotency.store_answer(transaction, key, answer)
    return answer


def _require_cancellable(order: Order, user: Identity, versions: frozenset[int] | None) -> None:
    if order.user_id != user.id and not user.is_admin:
        raise Forbidden("You are not allowed to access this order")
    if versions is not None and order.version not in versions:
        raise StaleVersion
    if not cancellable(order.status):
        raise NotCancellable


async def get(database: Database, order_id: UUID) -> tuple[int, dict[str, Any]]:
    """The order's version, and the order as clients see it. Raises OrderNotFound."""
    async with database.connection() as connection:
        row = await sql.get_order(connection, id=order_id)
    if row is None:
        raise OrderNotFound
    return row["version"], order_rows.from_row(row)


async def page(
    database: Database,
    user_id: UUID | None,
    status: Status | None,
    place: list[str] | None,
    size: int,
) -> list[tuple[dict[str, Any], list[str]]]:
    """Up to `size` orders of a user, or of everybody where `user_id` is None, newest first.

    They lie behind `place`, and each comes with its own. Raises ValueError when `place` is not one
    of this list.
    """
    moment, order_id = (parse_time(place[0]), UUID(place[1])) if place else (None, None)
    wanted = {"statuses": [status] if status else list(Status), "page_size": size}
    behind = {"before": moment, "before_id": order_id}
    async with database.connection() as connection:
        if user_id is None:
            rows = await sql.list_orders(connection, **wanted, **behind)
        else:
            rows = await sql.list_orders_of_user(connection, user_id=user_id, **wanted, **behind)
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
    """Captured money makes a CREATED order PAID: events tell of it, PostgreSQL decides."""
    orders, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        order = orders[event.order_id]
        is_captured = _stands(all_payments[order.id], event.paymentId, PaymentStatus.SUCCEEDED)
        if is_captured and order.may_become(Status.PAID):
            order.become(Status.PAID)
            transaction.publish(
                OrderPaid(
                    **order_rows.stamp(order, event.requestId),
                    **_summary(order),
                    paymentId=event.paymentId,
                )
            )


async def cancel_unpaid(transaction: Transaction, events: Sequence[PaymentFailed]) -> None:
    """A failed payment cancels an order that is still CREATED, unless money came after all."""
    orders, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        order, payments = orders[event.order_id], all_payments[event.order_id]
        has_failed = _stands(payments, event.paymentId, PaymentStatus.FAILED)
        is_paid = any(held.payment.status is PaymentStatus.SUCCEEDED for held in payments)
        if has_failed and order.status is Status.CREATED and not is_paid:
            # A checkout ends with the time to pay the order, whoever notices it first.
            reason = EXPIRED if event.reason == CHECKOUT_EXPIRED else event.reason
            cancel(transaction, order, reason, event.requestId)


def _stands(payments: Iterable[LockedPayment], payment_id: str, status: PaymentStatus) -> bool:
    """Whether there is such a payment, at `status`."""
    return any(
        held.payment.id == UUID(payment_id) and held.payment.status is status for held in payments
    )


async def complete(transaction: Transaction, events: Sequence[InventoryReserved]) -> None:
    """Reserved stock completes a PAID order."""
    orders = await order_rows.lock(transaction, events)
    for event in events:
        order = orders[event.order_id]
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
        order = orders[event.order_id]
        if order.status is Status.PAID:
            cancel(transaction, order, OUT_OF_STOCK, event.requestId)
