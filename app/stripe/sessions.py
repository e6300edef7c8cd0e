"""Checkout Sessions at Stripe: opened for an attempt, closed when nobody should pay any more."""

import logging
from datetime import timedelta
from typing import Any

import orjson

from app.crashes import Point, crash_here
from app.db import Database
from app.errors import ProviderAway, ProviderRefused
from app.lifecycle import PaymentStatus
from app.money.ledger import Fact, Kind, captured, expired
from app.money.rows import report
from app.money.settle import expire_session
from app.queries import sql
from app.stripe.answers import (
    Provider,
    answering,
    note_again,
    note_done,
    subject_of,
    wait_for_key,
    work_of,
)
from app.stripe.provider import Checkout, Line, Session
from app.times import now

log = logging.getLogger(__name__)

POLL_EVERY = timedelta(minutes=10)
"""How often Stripe is asked about a session that is complete, while its webhook does not come."""
WEBHOOK_GRACE = timedelta(hours=1)
"""How long after a session's end its webhook decides alone; then Stripe's answer does, too."""
DELAYED_PAYMENT_LIMIT = timedelta(days=30)
"""How long after a session's end it may be paid: by bank transfer, for one, that takes days."""


async def open_session(database: Database, provider: Provider, call: Any) -> None:
    """Open the page of an attempt that its order still waits for.

    Who asked before may have had no answer: then Stripe is asked even if the order waits no more,
    for a session that is open has to be closed, and its id is in the answer alone.
    """
    async with database.connection() as connection:
        if call["status"] != PaymentStatus.PENDING and call["attempts"] == 1:
            await note_done(connection, call, f"The payment is {call['status']}")
            return
        checkout = await _checkout(connection, call, *provider.return_urls)
    try:
        session = await provider.create_session(checkout)
    except ProviderRefused as refused:
        await _no_session(database, call, refused)
        return
    async with answering(database, call) as (transaction, held):
        payment = held.payment
        payment.session_id = payment.session_id or session.id
        payment.payment_intent = payment.payment_intent or session.payment_intent
        payment.checkout_url = session.url
        if held.state.status is PaymentStatus.VOIDED:
            expire_session(transaction, payment, call["request_id"])


async def _checkout(connection: Any, call: Any, success_url: str, cancel_url: str) -> Checkout:
    """What Stripe is asked for: with the same key always the same, or it would refuse."""
    payment_id, order_id = call["payment_id"], call["order_id"]
    asked = orjson.loads(
        await sql.ask_for_session(
            connection,
            payment_id=payment_id,
            order_id=order_id,
            success_url=success_url,
            cancel_url=cancel_url,
        )
    )
    lines = [Line(*line) for line in asked.pop("lines")]
    terms = call["currency"], call["expires_at"]
    return Checkout(payment_id, order_id, lines, *terms, **asked)


async def _no_session(database: Database, call: Any, refused: ProviderRefused) -> None:
    """Nothing was done, so another attempt may be made; the order goes on waiting."""
    log.warning("Stripe refuses a checkout of order %s: %s", call["order_id"], refused)
    async with answering(database, call, str(refused)) as (_, held):
        if held.state.status is PaymentStatus.PENDING:
            held.state.status = PaymentStatus.FAILED
            held.payment.failure_reason = refused.reason


async def close_session(database: Database, provider: Provider, call: Any) -> None:
    """Let nobody pay a session any more, unless somebody has."""
    late = now() - (call["expires_at"] or now())
    try:
        session = await provider.expire_session(call["session_id"])
    except ProviderRefused as refused:
        wait_for_key(refused)
        log.warning("Stripe does not expire %s: %s", call["session_id"], refused)
        await _conclude(database, call, _fact_of_none(call["status"], late), str(refused))
        return
    await _conclude(database, call, _fact_of(session, late), intent=session.payment_intent)


async def _conclude(
    database: Database,
    call: Any,
    fact: Fact | None,
    failure: str | None = None,
    intent: str | None = None,
) -> None:
    """Report what a session has come to; without a fact, Stripe is asked again later."""
    if fact is None:
        await _ask_later(database, call, failure)
        return
    async with answering(database, call, failure) as (transaction, held):
        held.payment.payment_intent = held.payment.payment_intent or intent
        report(transaction, held, fact, f"{fact.kind} {call['session_id']}")


def _fact_of_none(status: str, late: timedelta) -> Fact | None:
    """What a session comes to of which Stripe tells nothing, so long after its end.

    An order that waits for it is an operator's for that long; one that has ended wants nothing.
    """
    waits = status == PaymentStatus.PENDING
    return expired() if late > (DELAYED_PAYMENT_LIMIT if waits else WEBHOOK_GRACE) else None


def _fact_of(session: Session, late: timedelta) -> Fact | None:
    """What a session comes to, so long after its end; None while its webhook may tell.

    Raises ProviderAway where it is still open.
    """
    if session.status == "open":
        raise ProviderAway("the session is open")
    if session.status == "expired":
        return expired()
    if session.is_paid:
        if late <= WEBHOOK_GRACE:
            return None
        log.warning("No webhook has told of session %s, which is paid", session.id)
        return captured(session.amount_minor, session.currency)
    return expired() if late > DELAYED_PAYMENT_LIMIT else None


async def _ask_later(database: Database, call: Any, failure: str | None) -> None:
    """Nothing is decided, unless a webhook has told meanwhile."""
    work = work_of(call)
    crash_here(Point.SENT, work)
    async with database.transaction(work) as transaction:
        held = (await subject_of(transaction, call)).held
        if any(fact.kind in (Kind.CAPTURED, Kind.FAILED) for fact in held.facts):
            await note_done(transaction.connection, call, failure)
            return
        await note_again(transaction.connection, call, failure, POLL_EVERY)
        await sql.postpone_deadline(
            transaction.connection, order_id=call["order_id"], due_at=now() + POLL_EVERY
        )
