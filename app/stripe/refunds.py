"""Refunds at Stripe: requested, polled until they have ended, and looked at once more later."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from app.db.pools import Database
from app.db.rows import RefundRow
from app.db.transaction import Transaction
from app.money.ledger import LOST_STATUSES, Fact
from app.money.locked_payments import LockedPayment, report
from app.money.statuses import PaymentStatus
from app.stripe.answers import answering, wait_for_key
from app.stripe.api import Refund, StripeApi
from app.stripe.errors import ProviderAway, ProviderRefused
from app.times import now

log = logging.getLogger(__name__)

LATE_FAILURE_LIMIT = timedelta(days=35)
"""How long after Stripe has said that a refund has succeeded it may still fail.

The customer's bank may send the money back within 30 days of the day on which the refund was
posted, which may be some days later: https://docs.stripe.com/refunds#failed-refunds.
"""
POLL_EVERY = timedelta(hours=6)
"""How often Stripe is asked for a refund that is pending."""


async def make_refund(database: Database, api: StripeApi, call: Any) -> None:
    """Request the call's refund, or poll it if Stripe has accepted it already."""
    if call["provider_refund_id"]:
        await _poll_refund(database, api, call)
        return
    id, amount, intent = call["subject_id"], call["amount_minor"], call["payment_intent"]
    try:
        if not intent:
            intent = (await api.find_session(call["session_id"])).payment_intent
        refund = await api.refund(id, call["order_id"], intent or "", amount)
    except ProviderRefused as refused:
        wait_for_key(refused)
        await _note_refusal(database, call, refused)
        return
    row = RefundRow(id, call["payment_id"], amount, provider_refund_id=refund.id)
    again = _until_next(refund, call["succeeded_at"])
    async with answering(database, call, again=again) as (transaction, locked):
        locked.payment.payment_intent = locked.payment.payment_intent or intent
        transaction.refunds[id] = row
        report_refund(transaction, locked, refund, str(id))


async def _note_refusal(database: Database, call: Any, refused: ProviderRefused) -> None:
    """Record that Stripe has refused the refund; settling the order may request another."""
    log.warning("Stripe refuses a refund of payment %s: %s", call["payment_id"], refused)
    id, reason = call["subject_id"], refused.reason
    row = RefundRow(id, call["payment_id"], call["amount_minor"], refused_reason=reason)
    async with answering(database, call, str(refused)) as (transaction, locked):
        transaction.refunds[id] = row
        locked.refuse(str(id), reason)
        # A person may have refunded some of it, which no webhook has reported.
        report_refunds(transaction, locked, refused.refunds)


async def _poll_refund(database: Database, api: StripeApi, call: Any) -> None:
    """Poll a refund that Stripe has accepted, because its webhook may never come."""
    id = call["provider_refund_id"]
    try:
        refund = await api.find_refund(id)
    except ProviderRefused as refused:
        wait_for_key(refused)
        if call["status"] == PaymentStatus.REFUNDED:
            log.warning("Stripe does not show refund %s again: %s", id, refused)
            async with answering(database, call, str(refused)):
                return
        # Stripe has accepted the refund, so a refusal to show it proves nothing: another refund
        # could return the money twice.
        raise ProviderAway(str(refused)) from refused
    again = _until_next(refund, call["succeeded_at"])
    async with answering(database, call, again=again) as (transaction, locked):
        report_refund(transaction, locked, refund, str(call["subject_id"]))


def _until_next(refund: Refund, succeeded_at: datetime | None) -> timedelta | None:
    """Return when to ask again: in a few hours, or once more when it can no longer fail.

    `succeeded_at` is when Stripe first said that it has succeeded; None if not before this answer.
    """
    if refund.status != "succeeded":
        return None if refund.status in LOST_STATUSES else POLL_EVERY
    left = (succeeded_at or now()) + LATE_FAILURE_LIMIT - now()
    return left if left > timedelta(0) else None


def report_refunds(
    transaction: Transaction, locked: LockedPayment, refunds: Iterable[Refund]
) -> None:
    """Record refunds that Stripe listed when it was asked for all of a payment."""
    for refund in refunds:
        report_refund(transaction, locked, refund, refund.refund_id)


def report_refund(
    transaction: Transaction, locked: LockedPayment, refund: Refund, refund_id: str | None
) -> None:
    """Record what Stripe says of a refund; `refund_id` is our id of it, if we requested it."""
    fact = Fact.refund(refund.id, refund.amount_minor, refund.status, refund_id)
    report(transaction, locked, fact, f"refund {refund.id} {refund.status}")
