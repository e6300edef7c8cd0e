"""What Stripe is asked for, by kind of call, and what its answers change.

Nothing is held while a call is made; its answer commits under the order's lock, like any report.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import orjson

from app import order_rows
from app.crashes import Point, crash_here
from app.db import Database
from app.errors import ProviderAway, ProviderRefused
from app.ledger import Fact, Kind, captured, expired
from app.ledger import refund as returned
from app.lifecycle import Order, PaymentStatus
from app.money_rows import Held, RefundRow, purse_of, report
from app.queries import sql
from app.settling import expire_session, settle
from app.stripe_provider import NOT_CONFIGURED, Checkout, Line, Refund, Session
from app.times import now
from app.transaction import Transaction

log = logging.getLogger(__name__)

COMPLETE_PATIENCE = timedelta(minutes=10)
"""How often Stripe is asked about a session that is complete, while its webhook does not come."""
WEBHOOK_PATIENCE = timedelta(hours=1)
"""How long after a session's end its webhook decides alone; then Stripe's answer does, too."""
REFUND_PATIENCE = timedelta(hours=6)
"""How often Stripe is asked for a refund that is on its way."""
ENDS_OF_REFUNDS = ("succeeded", "failed", "canceled")
PAYMENT_PATIENCE = timedelta(days=30)
"""How long after a session's end it may be paid: by bank transfer, for one, that takes days."""


class Provider(Protocol):
    """What is called: `app.stripe_provider`. Each raises ProviderAway or ProviderRefused."""

    @property
    def return_urls(self) -> tuple[str, str]:
        """Where a page sends customers who have paid, and those who leave."""

    async def create_session(self, checkout: Checkout) -> Session:
        """Open a page on which the customer pays."""

    async def expire_session(self, session_id: str) -> Session:
        """Close it."""

    async def refund(
        self, refund_id: UUID, order_id: UUID, payment_intent: str, amount_minor: int
    ) -> Refund:
        """Give money back."""

    async def find_refund(self, id: str) -> Refund:
        """Tell where money stands that is on its way back."""


class Answering(NamedTuple):
    """The transaction that takes an answer, and the payment it is about."""

    transaction: Transaction
    held: Held


@asynccontextmanager
async def _answering(
    database: Database, call: Any, failure: str | None = None, again: timedelta | None = None
) -> AsyncIterator[Answering]:
    """Note an answer under the order's lock, and settle the order by it.

    The call is done with then, or is made once more after `again`.
    """
    work = work_of(call)
    crash_here(Point.SENT, work)
    async with database.transaction(work) as transaction:
        order, purse, held = await _held(transaction, call)
        yield Answering(transaction, held)
        settle(transaction, order, purse, call["request_id"])
        if again:
            await _note_again(transaction.connection, call, failure, again)
        else:
            await _note_done(transaction.connection, call, failure)


class _Subject(NamedTuple):
    """What a call is about: an order, all its payments, and the one of them."""

    order: Order
    purse: list[Held]
    held: Held


async def _held(transaction: Transaction, call: Any) -> _Subject:
    order, _ = await order_rows.lock_one(transaction, call["order_id"])
    purse = await purse_of(transaction, order.id)
    held = next(one for one in purse if one.payment.id == call["payment_id"])
    return _Subject(order, purse, held)


def work_of(call: Any) -> str:
    """What crash points call it."""
    return f"provider_calls.{call['kind']}"


async def _note_done(connection: Any, call: Any, failure: str | None) -> None:
    await sql.finish_call(
        connection,
        kind=call["kind"],
        subject_id=call["subject_id"],
        failure=failure and failure[:500],
    )


async def _note_again(connection: Any, call: Any, failure: str | None, wait: timedelta) -> None:
    await sql.call_once_more(
        connection,
        kind=call["kind"],
        subject_id=call["subject_id"],
        wait=wait,
        failure=failure and failure[:500],
    )


async def open_session(database: Database, provider: Provider, call: Any) -> None:
    """Open the page of an attempt that its order still waits for.

    Who asked before may have had no answer: then Stripe is asked even if the order waits no more,
    for a session that is open has to be closed, and its id is in the answer alone.
    """
    async with database.connection() as connection:
        if call["status"] != PaymentStatus.PENDING and call["attempts"] == 1:
            await _note_done(connection, call, f"The payment is {call['status']}")
            return
        checkout = await _checkout(connection, call, *provider.return_urls)
    try:
        session = await provider.create_session(checkout)
    except ProviderRefused as refused:
        await _no_session(database, call, refused)
        return
    async with _answering(database, call) as (transaction, held):
        payment = held.payment
        payment.session_id = payment.session_id or session.id
        payment.payment_intent = payment.payment_intent or session.payment_intent
        payment.checkout_url = session.url
        if held.account.status is PaymentStatus.VOIDED:
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
    async with _answering(database, call, str(refused)) as (_, held):
        if held.account.status is PaymentStatus.PENDING:
            held.account.status = PaymentStatus.FAILED
            held.payment.failure_reason = refused.reason


async def close_session(database: Database, provider: Provider, call: Any) -> None:
    """Let nobody pay a session any more, unless somebody has."""
    late = now() - (call["expires_at"] or now())
    try:
        session = await provider.expire_session(call["session_id"])
    except ProviderRefused as refused:
        _wait_for_key(refused)
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
    async with _answering(database, call, failure) as (transaction, held):
        held.payment.payment_intent = held.payment.payment_intent or intent
        report(transaction, held, fact, f"{fact.kind} {call['session_id']}")


def _fact_of_none(status: str, late: timedelta) -> Fact | None:
    """What a session comes to of which Stripe tells nothing, so long after its end.

    An order that waits for it is an operator's for that long; one that has ended wants nothing.
    """
    waits = status == PaymentStatus.PENDING
    return expired() if late > (PAYMENT_PATIENCE if waits else WEBHOOK_PATIENCE) else None


def _fact_of(session: Session, late: timedelta) -> Fact | None:
    """What a session comes to, so long after its end; None while its webhook may tell.

    Raises ProviderAway where it is still open.
    """
    if session.status == "open":
        raise ProviderAway("the session is open")
    if session.status == "expired":
        return expired()
    if session.is_paid:
        if late <= WEBHOOK_PATIENCE:
            return None
        log.warning("No webhook has told of session %s, which is paid", session.id)
        return captured(session.amount_minor, session.currency)
    return expired() if late > PAYMENT_PATIENCE else None


async def _ask_later(database: Database, call: Any, failure: str | None) -> None:
    """Nothing is decided, unless a webhook has told meanwhile."""
    work = work_of(call)
    crash_here(Point.SENT, work)
    async with database.transaction(work) as transaction:
        held = (await _held(transaction, call)).held
        if any(fact.kind in (Kind.CAPTURED, Kind.FAILED) for fact in held.facts):
            await _note_done(transaction.connection, call, failure)
            return
        await _note_again(transaction.connection, call, failure, COMPLETE_PATIENCE)
        await sql.postpone_deadline(
            transaction.connection, order_id=call["order_id"], due_at=now() + COMPLETE_PATIENCE
        )


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
        _wait_for_key(refused)
        log.warning("Stripe refuses a refund of payment %s: %s", call["payment_id"], refused)
        row.refused_reason = refused.reason
        async with _answering(database, call, str(refused)) as (transaction, held):
            transaction.refunds[id] = row
            held.account.refused.add(str(id))
        return
    row.provider_ref = refund.id
    async with _answering(database, call, again=_until_next(refund)) as (transaction, held):
        transaction.refunds[id] = row
        _report_refund(transaction, held, refund, id)


async def _look_after(database: Database, provider: Provider, call: Any) -> None:
    """Ask where a refund stands that Stripe has taken on: its webhook may never come."""
    try:
        refund = await provider.find_refund(call["provider_ref"])
    except ProviderRefused as refused:
        # It was taken on, so nothing may be concluded: another one would give the money twice.
        raise ProviderAway(str(refused)) from refused
    async with _answering(database, call, again=_until_next(refund)) as (transaction, held):
        _report_refund(transaction, held, refund, call["subject_id"])


def _until_next(refund: Refund) -> timedelta | None:
    return None if refund.status in ENDS_OF_REFUNDS else REFUND_PATIENCE


def _report_refund(transaction: Transaction, held: Held, refund: Refund, request: UUID) -> None:
    fact = returned(refund.id, refund.amount_minor, refund.status, str(request))
    report(transaction, held, fact, f"refund {refund.id} {refund.status}")


def _wait_for_key(refused: ProviderRefused) -> None:
    """What has to be done waits for a key that Stripe takes. Raises ProviderAway."""
    if refused.reason == NOT_CONFIGURED:
        raise ProviderAway(str(refused)) from refused


KINDS = {"session": open_session, "expire": close_session, "refund": give_back}
"""What makes each kind of call."""
