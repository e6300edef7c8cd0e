"""Checkout Sessions at Stripe: opened for a payment attempt, closed when it must not be paid."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson

from app.crashes import Point, crash_here
from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.metrics import WEBHOOKS
from app.money.ledger import PAYMENT_FAILED, Fact, Kind
from app.money.locked_payments import LockedPayment, report
from app.money.settle import expire_session
from app.money.statuses import PaymentStatus
from app.stripe.answers import answering, note_again, note_done, subject_of, wait_for_key, work_of
from app.stripe.api import Checkout, Line, Refund, Session, StripeApi
from app.stripe.errors import ProviderAway, ProviderRefused
from app.stripe.refunds import report_refunds
from app.times import now

log = logging.getLogger(__name__)

FAILED_INTENTS = ("requires_payment_method", "canceled")
"""How Stripe leaves the intent of a complete session whose delayed payment has failed.

See https://docs.stripe.com/payments/paymentintents/lifecycle.
"""
POLL_EVERY = timedelta(minutes=10)
"""How often Stripe is asked about a complete session whose webhook has not come."""
WEBHOOK_GRACE = timedelta(hours=1)
"""How long after a session's end only its webhook counts; after that, Stripe's answer does too."""
DELAYED_PAYMENT_LIMIT = timedelta(days=30)
"""How long after its end a session may still be paid, for example by bank transfer."""


async def open_session(database: Database, api: StripeApi, call: Any) -> None:
    """Create the session of an attempt that is still pending.

    From the second try on, Stripe is called even if the attempt is not pending: an earlier call may
    have opened a session whose answer was lost. That session must be closed, and only the answer to
    this call gives its id.
    """
    async with database.connection() as connection:
        if call["status"] != PaymentStatus.PENDING and call["attempts"] == 1:
            await note_done(connection, call, f"The payment is {call['status']}")
            return
        checkout = await _checkout(connection, call, *api.return_urls)
    try:
        session = await api.create_session(checkout)
    except ProviderRefused as refused:
        await _no_session(database, call, refused)
        return
    async with answering(database, call) as (transaction, locked):
        await _note_session(transaction, locked, session, call["request_id"])


async def _note_session(
    transaction: Transaction, locked: LockedPayment, session: Session, request_id: str
) -> None:
    """Record the attempt's session; close it if the attempt was voided meanwhile.

    Raises ProviderAway if an open session has no page.
    """
    payment = locked.payment
    payment.session_id = payment.session_id or session.id
    payment.payment_intent = payment.payment_intent or session.payment_intent
    payment.checkout_url = session.url
    if locked.state.status is PaymentStatus.VOIDED:
        expire_session(transaction, payment, request_id)
    elif locked.state.status is PaymentStatus.PENDING:
        if session.status == "open" and session.url is None:
            raise ProviderAway(f"Stripe gives no page for {session.id}")
        # The session's end cancels the order, even if no webhook reports it.
        await sql.advance_deadline(
            transaction.connection, order_id=payment.order_id, due_at=payment.expires_at
        )


async def _checkout(connection: Any, call: Any, success_url: str, cancel_url: str) -> Checkout:
    """Return the request for Stripe, which must not change between tries with the same key."""
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
    """Fail the attempt, for which no session was created; the customer may make another one."""
    log.warning("Stripe refuses a checkout of order %s: %s", call["order_id"], refused)
    async with answering(database, call, str(refused)) as (_, locked):
        if locked.state.status is PaymentStatus.PENDING:
            locked.state.status = PaymentStatus.FAILED
            locked.payment.failure_reason = refused.reason


async def close_session(database: Database, api: StripeApi, call: Any) -> None:
    """Expire the session of an attempt, unless it has been paid."""
    late = now() - (call["expires_at"] or now())
    try:
        session = await api.expire_session(call["session_id"])
    except ProviderRefused as refused:
        wait_for_key(refused)
        log.warning("Stripe does not expire %s: %s", call["session_id"], refused)
        await _conclude(database, call, _fact_of_hidden(call["status"], late), str(refused))
        return
    fact = _fact_of(session, late)
    refunds = await _refunds_of(api, session, fact)
    await _conclude(database, call, fact, intent=session.payment_intent, refunds=refunds)


async def _refunds_of(api: StripeApi, session: Session, fact: Fact | None) -> Sequence[Refund]:
    """Return the refunds of a session that was paid. Raises ProviderAway.

    A person may have refunded the money before anyone asks, and that webhook may be missing, too.
    """
    if fact is None or fact.kind is not Kind.CAPTURED or session.payment_intent is None:
        return ()
    return await api.find_refunds(session.payment_intent)


async def _conclude(
    database: Database,
    call: Any,
    fact: Fact | None,
    failure: str | None = None,
    intent: str | None = None,
    refunds: Sequence[Refund] = (),
) -> None:
    """Record the session's outcome, and its refunds; without a fact, ask Stripe again later."""
    if fact is None:
        await _ask_later(database, call, failure)
        return
    async with answering(database, call, failure) as (transaction, locked):
        _note_if_missed(transaction, call["session_id"], fact, locked.facts)
        locked.payment.payment_intent = locked.payment.payment_intent or intent
        report(transaction, locked, fact, f"{fact.kind} {call['session_id']}")
        report_refunds(transaction, locked, refunds)


def _fact_of_hidden(status: str, late: timedelta) -> Fact | None:
    """Return the outcome of a session that Stripe does not show, `late` after its end.

    None while it might have been paid: for 30 days if the payment is pending, else for an hour. A
    pending one is an operator's concern until then.
    """
    waits = status == PaymentStatus.PENDING
    return Fact.expired() if late > (DELAYED_PAYMENT_LIMIT if waits else WEBHOOK_GRACE) else None


def _fact_of(session: Session, late: timedelta) -> Fact | None:
    """Return the outcome of a session, `late` after its end; None while it is undecided.

    A complete one is undecided while its webhook may come, and while it may still be paid.
    Raises ProviderAway if it is still open.
    """
    if session.status == "open":
        raise ProviderAway("the session is open")
    if session.status == "expired":
        return Fact.expired()
    if late <= WEBHOOK_GRACE:
        return None
    if session.is_paid:
        return Fact.captured(session.amount_minor, session.currency)
    if session.intent_status in FAILED_INTENTS:
        return Fact.failed(PAYMENT_FAILED)
    return Fact.expired() if late > DELAYED_PAYMENT_LIMIT else None


def _note_if_missed(
    transaction: Transaction, session_id: str, fact: Fact, known: Sequence[Fact]
) -> None:
    """Note that no webhook reported the outcome, if one should have."""
    if fact == Fact.expired() or any(one.kind is fact.kind for one in known):
        return
    what = "which is paid" if fact.kind is Kind.CAPTURED else "whose payment failed"

    def note() -> None:
        log.warning("No webhook has told of session %s, %s", session_id, what)
        WEBHOOKS.labels("missed").inc()

    transaction.notices.append(note)


async def _ask_later(database: Database, call: Any, failure: str | None) -> None:
    """Ask Stripe again after POLL_EVERY, unless a webhook has reported the outcome meanwhile."""
    work = work_of(call)
    crash_here(Point.SENT, work)
    async with database.transaction(work) as transaction:
        locked = (await subject_of(transaction, call)).locked
        if any(fact.kind in (Kind.CAPTURED, Kind.FAILED) for fact in locked.facts):
            await note_done(transaction.connection, call, failure)
            return
        await note_again(transaction.connection, call, failure, POLL_EVERY)
        await sql.postpone_deadline(
            transaction.connection, order_id=call["order_id"], due_at=now() + POLL_EVERY
        )
