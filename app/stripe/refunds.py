"""Refunds at Stripe: asked for, and looked after until they have ended."""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.db import Database
from app.errors import ProviderAway, ProviderRefused
from app.money.ledger import refund as returned
from app.money.rows import LockedPayment, RefundRow, report
from app.stripe.answers import Provider, answering, wait_for_key
from app.stripe.provider import Refund
from app.transaction import Transaction

log = logging.getLogger(__name__)

ENDS = ("succeeded", "failed", "canceled")
"""https://docs.stripe.com/api/refunds/object#refund_object-status"""
POLL_EVERY = timedelta(hours=6)
"""How often Stripe is asked for a refund that is on its way."""


async def give_back(database: Database, provider: Provider, call: Any) -> None:
    """Refund what an order does not keep; ask on while that is on its way."""
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
            held.state.refused.add(str(id))
        return
    row.provider_ref = refund.id
    async with answering(database, call, again=_until_next(refund)) as (transaction, held):
        transaction.refunds[id] = row
        _report_refund(transaction, held, refund, id)


async def _look_after(database: Database, provider: Provider, call: Any) -> None:
    """Ask where a refund stands that Stripe has taken on: its webhook may never come."""
    try:
        refund = await provider.find_refund(call["provider_ref"])
    except ProviderRefused as refused:
        # It was taken on, so nothing may be concluded: another one would give the money twice.
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
