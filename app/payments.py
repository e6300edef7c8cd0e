"""Payments: asking for one, capturing it, and giving back what must not be kept."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app import idempotency, order_rows
from app.db import Database, Transaction, sql
from app.errors import (
    Forbidden,
    NotPayable,
    PaymentInProgress,
    StaleVersion,
)
from app.lifecycle import Order, Payment, PaymentStatus, Status, payable, payment_flaw
from app.money import to_major
from app.tokens import Identity
from app.topics import (
    OrderCancelled,
    PaymentFailed,
    PaymentRefunded,
    PaymentRequested,
    PaymentSucceeded,
    RefundRequested,
)

INTERNAL = "internal"


async def request_payment(
    database: Database,
    user: Identity,
    order_id: UUID,
    amount_minor: int | None,
    versions: frozenset[int] | None,
    key: idempotency.Key | None,
    request_id: str,
) -> dict[str, Any]:
    """Ask for a payment of `amount_minor` (None: the exact total); the order, still CREATED.

    Raises OrderNotFound, Forbidden, StaleVersion (unless `versions` is None or has the order's),
    NotPayable, PaymentInProgress, IdempotencyKeyReused, IdempotencyInProgress.
    """
    try:
        async with database.transaction() as transaction:
            if key and (answer := await idempotency.claim(transaction, key)):
                return answer
            order, row = await order_rows.lock_one(transaction, order_id)
            _require_payable(order, user, versions)
            _start_attempt(transaction, order, amount_minor, request_id)
            answer = order_rows.changed(row, order)
            if key:
                idempotency.settle(transaction, key, answer)
    except asyncpg.UniqueViolationError:
        raise PaymentInProgress from None
    return answer


def _require_payable(order: Order, user: Identity, versions: frozenset[int] | None) -> None:
    if order.user_id != user.id:
        raise Forbidden("You are not allowed to access this order")
    if versions is not None and order.version not in versions:
        raise StaleVersion
    if not payable(order.status):
        raise NotPayable


def _start_attempt(
    transaction: Transaction, order: Order, amount_minor: int | None, request_id: str
) -> None:
    amount = order.total_minor if amount_minor is None else amount_minor
    payment = Payment(uuid4(), order.id, INTERNAL, amount, order.currency)
    transaction.payments[payment.id] = payment
    transaction.publish(
        PaymentRequested(
            **order_rows.stamp(order, request_id),
            **_told(payment),
            expectedAmount=to_major(order.total_minor),
        )
    )


async def capture(transaction: Transaction, events: Sequence[PaymentRequested]) -> None:
    """Capture what was asked for, for orders still CREATED and of the exact amount."""
    orders = await order_rows.lock(transaction, events)
    pending = await _lock_payments(transaction, events, PaymentStatus.PENDING)
    for event in events:
        order, payment = orders[UUID(event.orderId)], pending.pop(UUID(event.paymentId), None)
        if payment is None:
            continue
        transaction.payments[payment.id] = payment
        if order.status is not Status.CREATED:
            payment.status = PaymentStatus.VOIDED
            payment.failure_reason = f"The order is {order.status}"
        elif flaw := payment_flaw(payment.amount_minor, order.total_minor):
            payment.status, payment.failure_reason = PaymentStatus.FAILED, flaw
            failed = {**order_rows.stamp(order, event.requestId), **_told(payment), "reason": flaw}
            transaction.publish(PaymentFailed(**failed))
        else:
            payment.status = PaymentStatus.SUCCEEDED
            captured = {**order_rows.stamp(order, event.requestId), **_told(payment)}
            transaction.publish(PaymentSucceeded(**captured))


async def request_refunds(transaction: Transaction, events: Sequence[OrderCancelled]) -> None:
    """Money captured for an order that is cancelled must go back."""
    orders = await order_rows.lock(transaction, events)
    causes = {UUID(event.orderId): event for event in events}
    rows = await sql.lock_captured(transaction.connection, order_ids=list(causes))
    for payment in (Payment(**row) for row in rows):
        order, cause = orders[payment.order_id], causes[payment.order_id]
        payment.status = PaymentStatus.REFUNDING
        transaction.payments[payment.id] = payment
        stamp = order_rows.stamp(order, cause.requestId)
        transaction.publish(RefundRequested(**stamp, **_told(payment), reason=cause.reason))


async def refund(transaction: Transaction, events: Sequence[RefundRequested]) -> None:
    """Give the money back; the internal provider settles at once."""
    orders = await order_rows.lock(transaction, events)
    refunding = await _lock_payments(transaction, events, PaymentStatus.REFUNDING)
    for event in events:
        if payment := refunding.pop(UUID(event.paymentId), None):
            payment.status = PaymentStatus.REFUNDED
            transaction.payments[payment.id] = payment
            stamp = order_rows.stamp(orders[UUID(event.orderId)], event.requestId)
            transaction.publish(PaymentRefunded(**stamp, **_told(payment)))


async def _lock_payments(
    transaction: Transaction,
    events: Sequence[PaymentRequested] | Sequence[RefundRequested],
    status: PaymentStatus,
) -> dict[UUID, Payment]:
    """Those of the events' payments that stand at `status`, by id."""
    ids = [event.paymentId for event in events]
    rows = await sql.lock_payments(transaction.connection, ids=ids, status=status)
    return {row["id"]: Payment(**row) for row in rows}


def _told(payment: Payment) -> dict[str, Any]:
    return {
        "paymentId": str(payment.id),
        "provider": payment.provider,
        "amount": to_major(payment.amount_minor),
        "currency": payment.currency,
    }
