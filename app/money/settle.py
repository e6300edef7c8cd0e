"""Settlement in a transaction: turn the steps that an order's money requires into rows and events.

Every transaction about money ends here: with the order locked and its payments read, the steps that
`app.money.steps` finds are recorded. Provider calls are recorded as due, never made, here.
"""

import logging
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app import orders
from app.db.rows import CallKind, DueCall, PaymentRow, RefundRow
from app.db.transaction import Transaction
from app.ids import new_id
from app.lifecycle import Order, Status
from app.money.amounts import to_major, to_major_in
from app.money.locked_payments import STRIPE, LockedPayment
from app.money.statuses import MAX_FAILED_REFUNDS
from app.money.steps import (
    AnnounceRefund,
    Cancel,
    Fail,
    GiveUpRefund,
    RequestRefund,
    Step,
    Succeed,
    Void,
    apply,
    steps_of,
)
from app.topics import Event, PaymentFailed, PaymentRefunded, PaymentSucceeded, RefundRequested

log = logging.getLogger(__name__)

PAID_ALREADY = "The order is paid already"
FAILED = "The refunds failed"
FIRST_WAIT = timedelta(seconds=30)
"""The wait after the first failed refund before it is tried again; each further one quadruples."""


def settle(
    transaction: Transaction, order: Order, payments: list[LockedPayment], request_id: str
) -> None:
    """Carry out the outstanding steps of a locked order; `payments` are all its payments."""
    by_id = {locked.payment.id: locked for locked in payments}
    states = [locked.state for locked in payments]
    for step in steps_of(order.status, order.total_minor, order.currency, states):
        if isinstance(step, Cancel):
            orders.cancel(transaction, order, step.reason, request_id)
        else:
            _take(transaction, order, by_id[step.payment], step, request_id)
    for locked in payments:
        locked.write(transaction)


def _take(
    transaction: Transaction, order: Order, locked: LockedPayment, step: Step, request_id: str
) -> None:
    refund_id = new_id()
    apply(locked.state, step, str(refund_id))
    payment = locked.payment
    match step:
        case Succeed():
            _emit_payment_event(transaction, PaymentSucceeded, order, payment, request_id)
        case Fail(reason=reason):
            payment.failure_reason = reason
            _emit_payment_event(
                transaction, PaymentFailed, order, payment, request_id, reason=reason
            )
        case Void():
            payment.failure_reason = _not_wanted(order)
            expire_session(transaction, payment, request_id)
        case RequestRefund(amount_minor=amount):
            refund = transaction.refunds[refund_id] = RefundRow(refund_id, payment.id, amount)
            _request_refund(transaction, order, locked, refund, request_id)
        case GiveUpRefund(amount_minor=amount):
            _call_operator(transaction, locked, amount, request_id)
        case AnnounceRefund(amount_minor=amount):
            told = _money(locked, amount)
            _emit_payment_event(transaction, PaymentRefunded, order, payment, request_id, **told)


def _call_operator(
    transaction: Transaction, locked: LockedPayment, amount_minor: int, request_id: str
) -> None:
    """Have it logged, right before the commit, that an operator has to refund the money."""
    payment, reason = locked.payment, locked.refusal or FAILED
    money = "{amount} {currency}".format(**_money(locked, amount_minor))
    line = "An operator has to give back %s of payment %s (order %s): %s"
    extra = {"request_id": request_id}
    notice = partial(log.error, line, money, payment.id, payment.order_id, reason, extra=extra)
    transaction.notices.append(notice)


def expire_session(transaction: Transaction, payment: PaymentRow, request_id: str) -> None:
    """Record a call that expires the payment's Stripe session, if it has one."""
    if payment.session_id:
        call_for(transaction, "expire", payment.order_id, payment.id, request_id)


def call_for(
    transaction: Transaction,
    kind: CallKind,
    order_id: UUID,
    payment_id: UUID,
    request_id: str,
    *,
    refund_id: UUID | None = None,
    wait: timedelta = timedelta(0),
) -> None:
    """Record a call to the payment's provider, due after `wait`; `refund_id` names a refund."""
    subject_id = refund_id or payment_id
    transaction.calls[kind, subject_id] = DueCall(
        kind, subject_id, order_id, payment_id, request_id, wait.total_seconds()
    )


def _request_refund(
    transaction: Transaction,
    order: Order,
    locked: LockedPayment,
    refund: RefundRow,
    request_id: str,
) -> None:
    """Request a refund: emit the event and, for Stripe, record the call.

    The internal provider acts on the event alone.
    """
    # An operator's retry raises the maximum; refunds that failed before it do not add to the wait.
    failed = locked.state.failed_refunds + MAX_FAILED_REFUNDS - locked.state.max_failed_refunds
    if locked.payment.provider == STRIPE:
        wait = FIRST_WAIT * 4 ** (failed - 1) if failed else timedelta(0)
        call_for(
            transaction,
            "refund",
            order.id,
            locked.payment.id,
            request_id,
            refund_id=refund.id,
            wait=wait,
        )
    told = {
        **_money(locked, refund.amount_minor),
        "reason": order.cancel_reason or PAID_ALREADY,
        "refundId": str(refund.id),
    }
    _emit_payment_event(transaction, RefundRequested, order, locked.payment, request_id, **told)


def _not_wanted(order: Order) -> str:
    return PAID_ALREADY if order.status is Status.CREATED else f"The order is {order.status}"


def _money(locked: LockedPayment, amount_minor: int) -> dict[str, Any]:
    currency = locked.state.money.currency or locked.payment.currency
    return {"amount": to_major_in(currency, amount_minor), "currency": currency}


def _emit_payment_event(
    transaction: Transaction,
    record: type[Event],
    order: Order,
    payment: PaymentRow,
    request_id: str,
    **more: Any,
) -> None:
    transaction.emit(record, order, request_id, **(payment_fields(payment) | more))


def payment_fields(payment: PaymentRow) -> dict[str, Any]:
    """Return the fields that every payment event carries."""
    return {
        "paymentId": str(payment.id),
        "provider": payment.provider,
        "amount": to_major(payment.amount_minor),
        "currency": payment.currency,
    }
