"""Stripe's webhook events: stored once, assigned to their payment, and settled.

An event whose payment or order is not known yet is stored without a payment. It is assigned with
the order's next event, or by `settle_kept`.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from app import order_locks
from app.db.errors import AWAY
from app.db.pools import Database
from app.db.queries import sql
from app.db.rows import PaymentRow
from app.db.transaction import Transaction
from app.ids import new_id
from app.lifecycle import Order, Status
from app.money.ledger import Fact, Kind
from app.money.locked_payments import STRIPE, LockedPayment, payments_of
from app.money.settle import settle
from app.money.statuses import PaymentStatus
from app.resilience.quarantine import Quarantine
from app.stripe.webhook import Report
from app.times import now

log = logging.getLogger(__name__)

BATCH = 100
KEPT_FOR = timedelta(days=35)
"""How long kept events are looked at. Older ones are left to what else happens to an order: a
session names its intent within 30 days."""


async def record(database: Database, report: Report, payload: bytes, request_id: str) -> bool:
    """Commit an event together with all that follows from it; return False for a known event.

    Raises one of AWAY.
    """
    async with database.transaction("events.record") as transaction:
        order = await _lock_order(transaction, report)
        is_new = await _keep(transaction, report, payload, request_id)
        if is_new and order and report.fact:
            payments = await payments_of(transaction, order.id)
            await assign_kept(transaction, order, payments)
            settle(transaction, order, payments, request_id)
    return is_new


async def settle_kept(
    database: Database, request_id: str, quarantine: Quarantine, kept_for: timedelta = KEPT_FOR
) -> int:
    """Look at up to 100 orders with kept events; return how many. Raises one of AWAY.

    Events that were kept for longer than `kept_for` are left out. What follows carries the id
    of the webhook's request; `request_id` stands in for an unknown one. An order that PostgreSQL
    refuses holds up no other: it goes into quarantine.
    """
    async with database.connection() as connection:
        rows = await sql.orders_with_kept_events(
            connection, kept_for=kept_for, batch=BATCH, quarantined=quarantine.ids()
        )
    for row in rows:
        try:
            async with database.transaction("events.settle_kept") as transaction:
                order, _ = await order_locks.lock_one(transaction, row["id"])
                payments = await payments_of(transaction, order.id)
                first = await assign_kept(transaction, order, payments)
                settle(transaction, order, payments, first or request_id)
        except AWAY:
            raise
        except asyncpg.PostgresError:
            quarantine.add(row["id"])
            log.exception("Kept events of order %s are looked at later", row["id"])
    return len(rows)


async def _lock_order(transaction: Transaction, report: Report) -> Order | None:
    """Lock the order of the report's payment, else the order that the report names."""
    order_id: UUID | None = await sql.order_of_report(
        transaction.connection,
        attempt_id=report.attempt_id,
        session_id=report.session_id,
        payment_intent=report.payment_intent,
    )
    return await order_locks.lock_if_any(transaction, order_id or report.order_id)


async def _keep(transaction: Transaction, report: Report, payload: bytes, request_id: str) -> bool:
    """Store the event; return False if it was known already."""
    fact, moment = report.fact, now()
    return bool(
        await sql.insert_provider_event(
            transaction.connection,
            provider=STRIPE,
            event_id=report.event_id,
            type=report.type,
            created_at=report.created or moment,
            now=moment,
            order_id=report.order_id,
            attempt_id=report.attempt_id,
            session_id=report.session_id,
            payment_intent=report.payment_intent,
            kind=fact and fact.kind,
            amount_minor=fact.amount_minor if fact else 0,
            currency=fact and fact.currency,
            provider_refund_id=fact and fact.provider_refund_id,
            refund_status=fact and fact.refund_status,
            refund_id=fact and fact.refund_id,
            reason=fact and fact.reason,
            request_id=request_id,
            payload=payload.decode(),
        )
    )


async def assign_kept(
    transaction: Transaction, order: Order, payments: list[LockedPayment]
) -> str | None:
    """Assign the stored events of a locked order to its payments, which are all it has.

    Return the id of the request that brought the first of them, None if there was no event, or none
    whose request is known. Repeats until none is left, because an event may name a session or an
    intent by which further events are found.
    """
    request_ids: list[str | None] = []
    while True:
        known = [locked.payment for locked in payments]
        rows = await sql.kept_events(
            transaction.connection,
            order_id=order.id,
            sessions=[one.session_id for one in known if one.session_id],
            intents=[one.payment_intent for one in known if one.payment_intent],
        )
        if not rows:
            return next(filter(None, request_ids), None)
        request_ids += [row["request_id"] for row in rows]
        assigned = [_assign(order, payments, row).payment.id for row in rows]
        await sql.assign_events(
            transaction.connection,
            provider=STRIPE,
            event_ids=[row["event_id"] for row in rows],
            payment_ids=assigned,
        )


def _assign(order: Order, payments: list[LockedPayment], row: Any) -> LockedPayment:
    """Apply an event to its payment and return the payment; create one that nobody requested."""
    locked = _find(payments, row)
    if locked is None:
        status = _first_status(order, payments, row["kind"])
        locked = LockedPayment.of(_not_requested(order, status))
        payments.append(locked)
    payment = locked.payment
    payment.session_id = payment.session_id or row["session_id"]
    payment.payment_intent = payment.payment_intent or row["payment_intent"]
    locked.learn(_fact(row))
    return locked


def _find(payments: Iterable[LockedPayment], row: Any) -> LockedPayment | None:
    """Find the event's payment by session or intent, else by the attempt's id in a session.

    The id counts only for an attempt whose session is not known: metadata may be copied.
    """
    session, intent = row["session_id"], row["payment_intent"]
    for locked in payments:
        known = locked.payment.session_id, locked.payment.payment_intent
        if (session and session == known[0]) or (intent and intent == known[1]):
            return locked
    for locked in payments:
        payment = locked.payment
        is_ours = payment.id == row["attempt_id"] and payment.provider == STRIPE
        if is_ours and payment.session_id is None:
            return locked
    return None


def _first_status(order: Order, payments: Iterable[LockedPayment], kind: str) -> PaymentStatus:
    """Return the status of a payment that nobody requested, before its order is settled.

    One that has failed cancels an unpaid order like an attempt that was requested.
    """
    is_paid = any(one.state.status is PaymentStatus.SUCCEEDED for one in payments)
    waits = order.status is Status.CREATED and not is_paid
    return PaymentStatus.PENDING if waits and kind == Kind.FAILED else PaymentStatus.VOIDED


def _not_requested(order: Order, status: PaymentStatus) -> PaymentRow:
    """Create a payment for money that was not requested here: of a session made elsewhere."""
    return PaymentRow(
        new_id(),
        order.id,
        STRIPE,
        order.total_minor,
        order.currency,
        status=status,
        requested=False,
    )


def _fact(row: Any) -> Fact:
    return Fact(
        Kind(row["kind"]),
        row["amount_minor"],
        row["currency"],
        row["provider_refund_id"],
        row["refund_status"],
        row["refund_id"],
        row["reason"],
    )
