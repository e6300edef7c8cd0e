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
    OrderNotFound,
    PaymentInProgress,
    StaleVersion,
    UnknownOrder,
)
from app.lifecycle import Order, Status, payment_flaw
from app.money import to_major
from app.times import now
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
    async with database.transaction() as transaction:
        if key and (answer := await idempotency.claim(transaction, key)):
            return answer
        order = await _payable(transaction, user, order_id, versions)
        amount = order.total_minor if amount_minor is None else amount_minor
        await _start_attempt(transaction, order, amount, request_id)
        await order_rows.save(transaction, [order])
        row = await sql.get_order(transaction.connection, id=order_id)
        answer = order_rows.from_row(row)
        if key:
            await idempotency.settle(transaction, key, answer)
    return answer


async def _payable(
    transaction: Transaction, user: Identity, order_id: UUID, versions: frozenset[int] | None
) -> Order:
    try:
        order = (await order_rows.lock(transaction, [order_id]))[order_id]
    except UnknownOrder:
        raise OrderNotFound from None
    if order.user_id != user.id:
        raise Forbidden("You are not allowed to access this order")
    if versions is not None and order.version not in versions:
        raise StaleVersion
    if order.status is not Status.CREATED:
        raise NotPayable
    return order


async def _start_attempt(
    transaction: Transaction, order: Order, amount_minor: int, request_id: str
) -> None:
    attempt = {
        "id": uuid4(),
        "provider": INTERNAL,
        "amount_minor": amount_minor,
        "currency": order.currency,
    }
    try:
        await sql.insert_payment(transaction.connection, **attempt, order_id=order.id, now=now())
    except asyncpg.UniqueViolationError:
        raise PaymentInProgress from None
    transaction.publish(
        PaymentRequested(
            **order_rows.stamp(order, request_id),
            **_told(attempt),
            expectedAmount=to_major(order.total_minor),
        )
    )


async def capture(transaction: Transaction, events: Sequence[PaymentRequested]) -> None:
    """Capture what was asked for, for orders still CREATED and of the exact amount."""
    locked = await order_rows.locked_for(transaction, events)
    attempts = await _attempts(transaction, events, "PENDING")
    outcome = _Outcome()
    for event in events:
        order, attempt = locked[UUID(event.orderId)], attempts.pop(UUID(event.paymentId), None)
        if attempt is None:
            continue
        if order.status is not Status.CREATED:
            outcome.move(attempt, "VOIDED", f"The order is {order.status}")
        elif flaw := payment_flaw(attempt["amount_minor"], order.total_minor):
            outcome.move(attempt, "FAILED", flaw)
            failed = {**order_rows.stamp(order, event.requestId), **_told(attempt), "reason": flaw}
            transaction.publish(PaymentFailed(**failed))
        else:
            outcome.move(attempt, "SUCCEEDED")
            captured = {**order_rows.stamp(order, event.requestId), **_told(attempt)}
            transaction.publish(PaymentSucceeded(**captured))
    await outcome.save(transaction)
    await order_rows.save(transaction, locked.values())


async def request_refunds(transaction: Transaction, events: Sequence[OrderCancelled]) -> None:
    """Money captured for an order that is cancelled must go back."""
    locked = await order_rows.locked_for(transaction, events)
    causes = {UUID(event.orderId): event for event in events}
    outcome = _Outcome()
    for attempt in await sql.lock_captured(transaction.connection, order_ids=list(causes)):
        order, cause = locked[attempt["order_id"]], causes[attempt["order_id"]]
        outcome.move(attempt, "REFUNDING")
        refund = {
            **order_rows.stamp(order, cause.requestId),
            **_told(attempt),
            "reason": cause.reason,
        }
        transaction.publish(RefundRequested(**refund))
    await outcome.save(transaction)
    await order_rows.save(transaction, locked.values())


async def refund(transaction: Transaction, events: Sequence[RefundRequested]) -> None:
    """Give the money back; the internal provider settles at once."""
    locked = await order_rows.locked_for(transaction, events)
    attempts = await _attempts(transaction, events, "REFUNDING")
    outcome = _Outcome()
    for event in events:
        if attempt := attempts.pop(UUID(event.paymentId), None):
            order = locked[UUID(event.orderId)]
            outcome.move(attempt, "REFUNDED")
            refunded = {**order_rows.stamp(order, event.requestId), **_told(attempt)}
            transaction.publish(PaymentRefunded(**refunded))
    await outcome.save(transaction)
    await order_rows.save(transaction, locked.values())


async def _attempts(
    transaction: Transaction,
    events: Sequence[PaymentRequested] | Sequence[RefundRequested],
    status: str,
) -> dict[UUID, Any]:
    ids = [event.paymentId for event in events]
    rows = await sql.lock_payments(transaction.connection, ids=ids, status=status)
    return {row["id"]: row for row in rows}


def _told(attempt: Any) -> dict[str, Any]:
    return {
        "paymentId": str(attempt["id"]),
        "provider": attempt["provider"],
        "amount": to_major(attempt["amount_minor"]),
        "currency": attempt["currency"],
    }


class _Outcome:
    """What becomes of a batch's attempts, written in one statement."""

    def __init__(self) -> None:
        self._moved: list[tuple[UUID, str, str | None]] = []

    def move(self, attempt: Any, status: str, reason: str | None = None) -> None:
        self._moved.append((attempt["id"], status, reason))

    async def save(self, transaction: Transaction) -> None:
        if self._moved:
            ids, statuses, reasons = zip(*self._moved, strict=True)
            await sql.save_payments(
                transaction.connection, ids=ids, statuses=statuses, reasons=reasons, now=now()
            )
