"""Refunds at Stripe: requested, and polled until they have ended."""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.db import Database
from app.errors import ProviderAway, ProviderRefused
from app.money.ledger import refund as returned
from app.money.rows import LockedPayment, report
from app.rows import RefundRow
from app.stripe.answers import answering, wait_for_key
from app.stripe.provider import Provider, Refund
from app.transaction import Transaction

log = logging.getLogger(__name__)

ENDS = ("succeeded", "failed", "canceled")
"""Final statuses: https://docs.stripe.com/api/refunds/object#refund_object-status."""
POLL_EVERY = timedelta(hours=6)
"""How often Stripe is asked for a refund that is pending."""


async def give_back(database: Database, provider: Provider, call: Any) -> None:
    """Request the call's refund, or poll it if Stripe has accepted it already."""
    if call["provider_ref"]:
        await _look_after(database, provider, call)
        return
    id, amount = call["subject_id"], call["amount_minor"]
    row = RefundRow(id, call["payment_id"], amount)
    try:
        refund = await provider.refund(id, call["order_id"], call["payment_intent"] or "", amount)
    except ProviderRefused as refused:
        wait_for_key(refused)
        log.warning("Stripe refuses a refund of payment %s: %s", call["payment_id"], refused)
        row.refused_reason = refused.reason
        async with answering(database, call, str(refused)) as (transaction, held):
            transaction.refunds[id] = row
            held.refuse(str(id), refused.reason)
        return
    row.provider_ref = refund.id
    async with answering(database, call, again=_until_next(refund)) as (transaction, held):
        transaction.refunds[id] = row
        _report_refund(transaction, held, refund, id)


async def _look_after(database: Database, provider: Provider, call: Any) -> None:
    """Poll a refund that Stripe has accepted, because its webhook may never come."""
    try:
        refund = await provider.find_refund(call["provider_ref"])
    except ProviderRefused as refused:
        # Stripe has accepted the refund, so a refusal to show it proves nothing: another refund
        # could return the money twice.
        raise ProviderAway(str(refused)) from refused
    async with answering(database, call, again=_until_next(refund)) as (transaction, held):
        _report_refund(transaction, held, refund, call["subject_id"])


def _until_next(refund: Refund) -> timedelta | None:
    return None if refund.status in ENDS else POLL_EVERY


def _report_refund(
    transaction: Transaction, held: LockedPayment, refund: Refund, request: UUID
) -> None:
    fact = returned(refund.id, refund.amount_minor, refund.status, str(request))
    report(transaction, held, fact, f"refund {refund.id} {refund.status}")
