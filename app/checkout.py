"""Checkout: paying on Stripe's page. An attempt starts here; a noted call opens its session."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from app import idempotency, order_locks
from app.db.pools import Database
from app.db.queries import sql
from app.db.rows import IdempotencyKey, PaymentRow
from app.db.transaction import Transaction
from app.errors import NothingToPay, NotPayable, OrderNotFound, PaymentInProgress, TooManyAttempts
from app.identity.tokens import Identity
from app.ids import new_id
from app.lifecycle import Order, Status, payable
from app.money.ledger import CHECKOUT_EXPIRED
from app.money.locked_payments import STRIPE, find, lock_with_payments
from app.money.settle import call_for, payment_fields
from app.money.statuses import ATTEMPTS_WITHIN, MAX_ATTEMPTS, PaymentStatus
from app.times import now, rfc3339
from app.topics import CheckoutRequested

SHORTEST = timedelta(minutes=31)
"""The shortest checkout: Stripe requires 30 minutes from a session's creation to its end."""
LONGEST = timedelta(hours=23, minutes=55)
"""The longest checkout: Stripe allows at most 24 hours."""

NOT_REQUESTED, REQUESTED, READY = "NOT_REQUESTED", "REQUESTED", "READY"
FAILED, EXPIRED = "FAILED", "EXPIRED"


class StartCheckout(NamedTuple):
    """The command to start a checkout of an order."""

    user: Identity
    order_id: UUID
    key: IdempotencyKey | None
    request_id: str


async def request_checkout(database: Database, command: StartCheckout) -> dict[str, Any]:
    """Start a checkout, or return the pending one: {orderId, status, pollUrl}.

    The order's deadline moves to the end of the checkout, if that is later. Raises OrderNotFound,
    Forbidden, NotPayable, NothingToPay, PaymentInProgress, TooManyAttempts, IdempotencyKeyReused,
    IdempotencyInProgress.
    """
    async with database.transaction("checkout.request_checkout") as transaction:
        if answer := await idempotency.claim(transaction, command.key):
            return answer
        order, _ = await order_locks.lock_one(transaction, command.order_id)
        _require_payable(order, command.user)
        rows = await sql.live_payments(
            transaction.connection, order_id=order.id, within=ATTEMPTS_WITHIN
        )
        live = _live_checkout(rows)
        if live is None:
            await _start_attempt(transaction, order, rows[0]["due_at"], command.request_id)
        answer = {
            "orderId": str(order.id),
            "status": _pending_status(live and live["checkout_url"]),
            "pollUrl": f"/api/orders/{order.id}/payments/stripe",
        }
        idempotency.store_answer(transaction, command.key, answer)
    return answer


def _require_payable(order: Order, user: Identity) -> None:
    user.require_owner(order.user_id)
    if not payable(order.status):
        raise NotPayable
    if order.total_minor == 0:
        raise NothingToPay


def _live_checkout(rows: Sequence[Any]) -> Any:
    """Return the pending checkout, if any.

    Raises PaymentInProgress for any other live attempt, TooManyAttempts where another has to wait.
    """
    live = [row for row in rows if row["status"]]
    if any((row["provider"], row["status"]) != (STRIPE, PaymentStatus.PENDING) for row in live):
        raise PaymentInProgress
    if not live and rows[0]["attempts"] >= MAX_ATTEMPTS:
        raise TooManyAttempts
    return live[0] if live else None


async def _start_attempt(
    transaction: Transaction, order: Order, due_at: datetime | None, request_id: str
) -> None:
    ends = expires_at(due_at, now())
    payment = PaymentRow(
        new_id(), order.id, STRIPE, order.total_minor, order.currency, expires_at=ends
    )
    transaction.payments[payment.id] = payment
    await sql.move_deadline(transaction.connection, order_id=order.id, due_at=ends)
    paid = payment_fields(payment)
    transaction.emit(CheckoutRequested, order, request_id, **paid, expiresAt=rfc3339(ends))


def expires_at(due_at: datetime | None, now: datetime) -> datetime:
    """Return when a checkout that starts at `now` ends, in whole seconds.

    That is the order's deadline, within the limits SHORTEST and LONGEST.
    """
    ends = min(max(due_at or now, now + SHORTEST), now + LONGEST)
    return ends.replace(microsecond=0)


async def note_call(transaction: Transaction, events: Sequence[CheckoutRequested]) -> None:
    """Note a call of Stripe that opens a session; it is made later and delays no event."""
    _, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        locked = find(all_payments[event.order_id], event.paymentId, PaymentStatus.PENDING)
        if locked and locked.payment.session_id is None:
            call_for(transaction, "session", event.order_id, locked.payment.id, event.requestId)


async def status(database: Database, user: Identity, order_id: UUID) -> dict[str, Any]:
    """Return the order's latest checkout: {orderId, status, checkoutUrl, failureReason}.

    Raises OrderNotFound, Forbidden.
    """
    async with database.connection() as connection:
        row = await sql.latest_checkout(connection, order_id=order_id)
    if row is None:
        raise OrderNotFound
    user.require_owner(row["user_id"])
    current = _status_of(row)
    is_open = current == READY and row["status"] == PaymentStatus.PENDING
    return {
        "orderId": str(order_id),
        "status": current,
        "checkoutUrl": row["checkout_url"] if is_open else None,
        "failureReason": row["failure_reason"] if current in (FAILED, EXPIRED) else None,
    }


def _status_of(row: Mapping[str, Any]) -> str:
    match row["status"]:
        case None:
            return NOT_REQUESTED
        # The session of an order that cannot be paid any more may still have to be closed.
        case PaymentStatus.PENDING if payable(Status(row["order_status"])):
            return _pending_status(row["checkout_url"])
        case PaymentStatus.FAILED:
            return EXPIRED if row["failure_reason"] == CHECKOUT_EXPIRED else FAILED
        case PaymentStatus.SUCCEEDED:
            return READY
    # The order does not wait for this checkout, or its money is refunded.
    return EXPIRED


def _pending_status(url: str | None) -> str:
    return READY if url else REQUESTED
