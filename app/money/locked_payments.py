"""An order's payments, locked and read with their facts and refunds; and reports about them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any
from uuid import UUID

import orjson

from app import order_locks
from app.db.rows import PaymentRow, ReportRow
from app.db.transaction import Transaction
from app.ids import parse_id
from app.lifecycle import Order
from app.money.ledger import Fact, Kind, money_of
from app.money.statuses import PaymentStatus
from app.money.steps import PaymentState
from app.times import parse_time
from app.topics import Event

INTERNAL, STRIPE = "internal", "stripe"


@dataclass(slots=True)
class LockedPayment:
    """A payment of a locked order, its state, and the facts that the state is computed from.

    `payment` is its row, which follows `state` when it is written.
    """

    payment: PaymentRow
    state: PaymentState
    facts: list[Fact] = field(default_factory=list)
    stored: PaymentRow | None = None
    """The payment as it stands in its row; None if it has no row yet."""
    refusal: str | None = None
    """Why the provider refused the latest of the refunds that it refused."""

    @classmethod
    def of(cls, payment: PaymentRow) -> "LockedPayment":
        """Wrap a payment about which nothing was reported yet."""
        state = PaymentState(
            payment.id,
            payment.status,
            announced_minor=payment.announced_minor,
            max_failed_refunds=payment.max_failed_refunds,
        )
        return cls(payment, state)

    def learn(self, *facts: Fact) -> None:
        """Add facts and recompute the money from all of them."""
        self.facts += facts
        self.state.learn(money_of(self.facts))

    def refuse(self, refund_id: str, reason: str) -> None:
        """Note that the provider refused one of our refunds."""
        self.state.refused.add(refund_id)
        self.refusal = reason

    def write(self, transaction: Transaction) -> None:
        """Have the transaction write the payment's row, if it has changed."""
        payment, state = self.payment, self.state
        payment.status, payment.announced_minor = state.status, state.announced_minor
        payment.captured_minor = state.money.captured_minor
        payment.captured_currency = state.money.currency
        payment.refunded_minor = state.money.refunded_minor
        if payment != self.stored:
            transaction.payments[payment.id] = payment


PaymentsByOrder = Mapping[UUID, list[LockedPayment]]
"""Each order's payments, oldest first."""


async def lock_payments(transaction: Transaction, order_ids: Iterable[UUID]) -> PaymentsByOrder:
    """Lock the orders and return all their payments, oldest first.

    The payments are built from what the lock read, without later changes of the transaction, so
    call it once per order and transaction.
    """
    ids = set(order_ids)
    await order_locks.lock_all(transaction, ids, money_of=ids)
    return {id: _payments(transaction.payments_json[id]) for id in ids}


async def lock_with_payments(
    transaction: Transaction, events: Sequence[Event]
) -> tuple[dict[UUID, Order], PaymentsByOrder]:
    """Lock the orders of `events`; return them by id, and their payments.

    Raises UnknownOrder if one does not exist.
    """
    orders = await order_locks.lock(transaction, events)
    return orders, await lock_payments(transaction, orders)


async def payments_of(transaction: Transaction, order_id: UUID) -> list[LockedPayment]:
    """Return all payments of one locked order, oldest first."""
    return (await lock_payments(transaction, [order_id]))[order_id]


def find(
    payments: Iterable[LockedPayment], payment_id: str, status: PaymentStatus
) -> LockedPayment | None:
    """Return the payment if it is among these and has this status."""
    id = parse_id(payment_id)
    found = (one for one in payments if one.payment.id == id and one.state.status is status)
    return next(found, None)


def _payments(rows: str | None) -> list[LockedPayment]:
    return [_locked_payment(row) for row in orjson.loads(rows or "[]")]


_COLUMNS = [
    column.name
    for column in fields(PaymentRow)
    if column.name not in ("id", "order_id", "status", "expires_at")
]


def _locked_payment(row: Mapping[str, Any]) -> LockedPayment:
    payment = PaymentRow(
        id=parse_id(row["id"]),
        order_id=parse_id(row["order_id"]),
        status=PaymentStatus(row["status"]),
        expires_at=row["expires_at"] and parse_time(row["expires_at"]),
        **{name: row[name] for name in _COLUMNS},
    )
    locked = LockedPayment.of(payment)
    locked.stored = replace(payment)
    # Ids increase with time.
    for id, amount, refused in sorted(row["refunds"] or ()):
        locked.state.refunds[id] = amount
        if refused is not None:
            locked.refuse(id, refused)
    if row["facts"]:
        locked.learn(*(Fact(Kind(kind), *told) for kind, *told in row["facts"]))
    return locked


def report(transaction: Transaction, locked: LockedPayment, fact: Fact, event_id: str) -> None:
    """Record a fact that did not come by webhook; `event_id` makes it unique in the ledger."""
    payment = locked.payment
    transaction.reports.append(
        ReportRow(
            provider=payment.provider,
            event_id=event_id,
            type=event_id.partition(" ")[0],
            order_id=payment.order_id,
            payment_id=payment.id,
            kind=fact.kind,
            amount_minor=fact.amount_minor,
            currency=fact.currency,
            provider_refund_id=fact.provider_refund_id,
            refund_status=fact.refund_status,
            refund_id=fact.refund_id,
            reason=fact.reason,
        )
    )
    locked.learn(fact)
