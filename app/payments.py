"""Payments: asking for one, capturing it, and giving back what must not be kept."""

from collections.abc import Iterable, Sequence
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
from app.ledger import captured, failed
from app.ledger import refund as returned
from app.lifecycle import (
    REFUND_ATTEMPTS,
    Order,
    Payment,
    PaymentStatus,
    payable,
    payment_flaw,
)
from app.money import to_major
from app.money_rows import INTERNAL, Held, hold, report
from app.settling import settle, told
from app.tokens import Identity
from app.topics import OrderCancelled, PaymentRequested, RefundRequested


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
        async with database.transaction("payments.request_payment") as transaction:
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
            **told(payment),
            expectedAmount=to_major(order.total_minor),
        )
    )


async def capture(transaction: Transaction, events: Sequence[PaymentRequested]) -> None:
    """Capture what was asked for, for orders that wait for it and of the exact amount."""
    orders = await order_rows.lock(transaction, events)
    purses = await hold(transaction, orders)
    for event in events:
        order, purse = orders[UUID(event.orderId)], purses[UUID(event.orderId)]
        # What is pending after this is what the order waits for.
        settle(transaction, order, purse, event.requestId)
        if held := _internal(purse, event.paymentId, PaymentStatus.PENDING):
            flaw = payment_flaw(held.payment.amount_minor, order.total_minor)
            fact = failed(flaw) if flaw else captured(held.payment.amount_minor, order.currency)
            report(transaction, held, fact, f"{fact.kind} {held.payment.id}")
            settle(transaction, order, purse, event.requestId)


async def request_refunds(transaction: Transaction, events: Sequence[OrderCancelled]) -> None:
    """Money of an order that is cancelled must go back, and nobody may pay it any more."""
    orders = await order_rows.lock(transaction, events)
    purses = await hold(transaction, orders)
    for event in events:
        order = orders[UUID(event.orderId)]
        settle(transaction, order, purses[order.id], event.requestId)


async def refund(transaction: Transaction, events: Sequence[RefundRequested]) -> None:
    """Give money back through the internal provider, which settles at once."""
    orders = await order_rows.lock(transaction, events)
    purses = await hold(transaction, orders)
    for event in events:
        order, purse = orders[UUID(event.orderId)], purses[UUID(event.orderId)]
        if held := _internal(purse, event.paymentId, PaymentStatus.REFUNDING):
            for id, amount in held.account.unanswered.items():
                fact = returned(id, amount, "succeeded", id)
                report(transaction, held, fact, f"refunded {id}")
            settle(transaction, order, purse, event.requestId)


async def retry_refund(database: Database, payment_id: UUID, request_id: str) -> bool:
    """Ask for a parked refund anew, as often as at first; whether there is such a payment."""
    async with database.transaction("payments.retry_refund") as transaction:
        order_id = await sql.order_of_payment(transaction.connection, id=payment_id)
        if order_id is None:
            return False
        order, _ = await order_rows.lock_one(transaction, order_id)
        purse = (await hold(transaction, [order_id]))[order_id]
        held = next(one for one in purse if one.payment.id == payment_id)
        if held.payment.status is not PaymentStatus.PARKED:
            return False
        held.payment.refund_attempts = held.account.failed_refunds + REFUND_ATTEMPTS
        held.account.attempts = held.payment.refund_attempts
        settle(transaction, order, purse, request_id)
    return True


def _internal(purse: Iterable[Held], payment_id: str, status: PaymentStatus) -> Held | None:
    """The payment through the internal provider, where it stands at `status`."""
    for held in purse:
        if str(held.payment.id) == payment_id and held.account.status is status:
            return held if held.payment.provider == INTERNAL else None
    return None
