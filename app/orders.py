"""Orders: cancelling and reading them, and how events move them to their next status."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from app import idempotency, order_locks
from app.db.pools import Database
from app.db.queries import sql
from app.db.rows import IdempotencyKey
from app.db.transaction import Transaction
from app.errors import NotCancellable, OrderNotFound, StaleVersion
from app.identity.tokens import Identity
from app.lifecycle import (
    CANCELLED_BY_ADMIN,
    CANCELLED_BY_OWNER,
    EXPIRED,
    OUT_OF_STOCK,
    Order,
    Status,
    cancellable,
)
from app.money.amounts import to_major
from app.money.ledger import CHECKOUT_EXPIRED
from app.money.locked_payments import find, lock_with_payments
from app.money.statuses import PaymentStatus
from app.order_json import changed_order_json, stored_order_json
from app.times import parse_time
from app.topics import (
    InventoryRejected,
    InventoryReserved,
    OrderCancelled,
    OrderCompleted,
    OrderPaid,
    PaymentFailed,
    PaymentSucceeded,
)


class CancelOrder(NamedTuple):
    """The command to cancel an order, of its owner or an administrator."""

    user: Identity
    order_id: UUID
    reason: str | None
    """None means that the order says who cancelled it."""
    versions: frozenset[int] | None
    """The order's version must be one of these; None accepts any."""
    key: IdempotencyKey | None
    request_id: str


async def cancel_on_request(database: Database, command: CancelOrder) -> dict[str, Any]:
    """Cancel a CREATED or PAID order at once; return the order.

    The agents then release reserved stock, refund captured money and void a pending payment. Raises
    OrderNotFound, Forbidden, StaleVersion, NotCancellable, IdempotencyKeyReused,
    IdempotencyInProgress.
    """
    async with database.transaction("orders.cancel_on_request") as transaction:
        if answer := await idempotency.claim(transaction, command.key):
            return answer
        order, row = await order_locks.lock_one(transaction, command.order_id)
        _require_cancellable(order, command)
        by_whom = CANCELLED_BY_OWNER if order.user_id == command.user.id else CANCELLED_BY_ADMIN
        cancel(transaction, order, command.reason or by_whom, command.request_id)
        answer = changed_order_json(row, order)
        idempotency.store_answer(transaction, command.key, answer)
    return answer


def _require_cancellable(order: Order, command: CancelOrder) -> None:
    command.user.require_owner_or_admin(order.user_id)
    if command.versions is not None and order.version not in command.versions:
        raise StaleVersion
    if not cancellable(order.status):
        raise NotCancellable


async def get(database: Database, order_id: UUID) -> tuple[int, dict[str, Any]]:
    """Return the order's version, and the order as clients see it. Raises OrderNotFound."""
    async with database.connection() as connection:
        row = await sql.get_order(connection, id=order_id)
    if row is None:
        raise OrderNotFound
    return row["version"], stored_order_json(row)


async def page(
    database: Database,
    user_id: UUID | None,
    status: Status | None,
    position: list[str] | None,
    size: int,
) -> list[tuple[dict[str, Any], list[str]]]:
    """Return up to `size` orders of a user, or of all users if `user_id` is None, newest first.

    The page starts after the cursor `position`; each order comes with its own position.
    Raises ValueError when `position` is not a position in this list.
    """
    moment, order_id = (parse_time(position[0]), UUID(position[1])) if position else (None, None)
    wanted = {"statuses": [status] if status else list(Status), "page_size": size}
    after = {"before": moment, "before_id": order_id}
    async with database.connection() as connection:
        if user_id is None:
            rows = await sql.list_orders(connection, **wanted, **after)
        else:
            rows = await sql.list_orders_of_user(connection, user_id=user_id, **wanted, **after)
    found = [stored_order_json(row) for row in rows]
    return [(order, [order["createdAt"], order["id"]]) for order in found]


def _summary(order: Order) -> dict[str, Any]:
    return {
        "userId": str(order.user_id),
        "totalAmount": to_major(order.total_minor),
        "currency": order.currency,
    }


def cancel(transaction: Transaction, order: Order, reason: str, request_id: str) -> None:
    """Cancel a locked order whose status allows it, and emit the event."""
    order.become(Status.CANCELLED, reason)
    transaction.emit(
        OrderCancelled,
        order,
        request_id,
        **_summary(order),
        reason=reason,
        customerEmail=order.customer_email,
    )


async def mark_paid(transaction: Transaction, events: Sequence[PaymentSucceeded]) -> None:
    """Mark CREATED orders PAID, if PostgreSQL confirms the captures that the events report."""
    orders, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        order = orders[event.order_id]
        captured = find(all_payments[order.id], event.paymentId, PaymentStatus.SUCCEEDED)
        if captured and order.may_become(Status.PAID):
            order.become(Status.PAID)
            transaction.emit(
                OrderPaid,
                order,
                event.requestId,
                **_summary(order),
                paymentId=event.paymentId,
            )


async def cancel_unpaid(transaction: Transaction, events: Sequence[PaymentFailed]) -> None:
    """Cancel CREATED orders whose payment has failed, unless another payment has succeeded."""
    orders, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        order, payments = orders[event.order_id], all_payments[event.order_id]
        failed = find(payments, event.paymentId, PaymentStatus.FAILED)
        is_paid = any(locked.state.status is PaymentStatus.SUCCEEDED for locked in payments)
        if failed and order.status is Status.CREATED and not is_paid:
            # A checkout expires with its order: the reason is the same whichever is noticed first.
            reason = EXPIRED if event.reason == CHECKOUT_EXPIRED else event.reason
            cancel(transaction, order, reason, event.requestId)


async def complete(transaction: Transaction, events: Sequence[InventoryReserved]) -> None:
    """Complete PAID orders, if PostgreSQL confirms that their stock is reserved."""
    orders = await order_locks.lock(transaction, events)
    for event in events:
        order = orders[event.order_id]
        if order.may_become(Status.COMPLETED) and transaction.decisions[order.id] == "RESERVED":
            order.become(Status.COMPLETED)
            transaction.emit(
                OrderCompleted,
                order,
                event.requestId,
                **_summary(order),
                customerEmail=order.customer_email,
            )


async def cancel_unstocked(transaction: Transaction, events: Sequence[InventoryRejected]) -> None:
    """Cancel PAID orders, if PostgreSQL confirms that their stock could not be reserved."""
    orders = await order_locks.lock(transaction, events)
    for event in events:
        order = orders[event.order_id]
        if order.status is Status.PAID and transaction.decisions[order.id] == "REJECTED":
            cancel(transaction, order, OUT_OF_STOCK, event.requestId)
