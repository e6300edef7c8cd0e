"""How an answer of Stripe is taken: under the order's lock, like any report.

Nothing is held while a call is made; what is asked stands in `sessions.py` and `refunds.py`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from app import order_rows
from app.crashes import Point, crash_here
from app.db import Database
from app.errors import ProviderAway, ProviderRefused
from app.lifecycle import Order
from app.money.rows import LockedPayment, payments_of
from app.money.settle import settle
from app.queries import sql
from app.stripe.provider import NOT_CONFIGURED, Checkout, Refund, Session
from app.transaction import Transaction


class Provider(Protocol):
    """What is called: `app.stripe.provider`. Each raises ProviderAway or ProviderRefused."""

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
    held: LockedPayment


@asynccontextmanager
async def answering(
    database: Database, call: Any, failure: str | None = None, again: timedelta | None = None
) -> AsyncIterator[Answering]:
    """Note an answer under the order's lock, and settle the order by it.

    The call is done with then, or is made once more after `again`.
    """
    work = work_of(call)
    crash_here(Point.SENT, work)
    async with database.transaction(work) as transaction:
        order, payments, held = await subject_of(transaction, call)
        yield Answering(transaction, held)
        settle(transaction, order, payments, call["request_id"])
        if again:
            await note_again(transaction.connection, call, failure, again)
        else:
            await note_done(transaction.connection, call, failure)


class Subject(NamedTuple):
    """What a call is about: an order, all its payments, and the one of them."""

    order: Order
    payments: list[LockedPayment]
    held: LockedPayment


async def subject_of(transaction: Transaction, call: Any) -> Subject:
    """What the call is about, under its order's lock."""
    order, _ = await order_rows.lock_one(transaction, call["order_id"])
    payments = await payments_of(transaction, order.id)
    held = next(one for one in payments if one.payment.id == call["payment_id"])
    return Subject(order, payments, held)


def work_of(call: Any) -> str:
    """What crash points call it."""
    return f"provider_calls.{call['kind']}"


async def note_done(connection: Any, call: Any, failure: str | None) -> None:
    """The call was answered, or is never to be made for the reason given."""
    await sql.finish_call(
        connection,
        kind=call["kind"],
        subject_id=call["subject_id"],
        failure=failure and failure[:500],
    )


async def note_again(connection: Any, call: Any, failure: str | None, wait: timedelta) -> None:
    """The call was answered, and is to be made again after `wait`."""
    await sql.call_once_more(
        connection,
        kind=call["kind"],
        subject_id=call["subject_id"],
        wait=wait,
        failure=failure and failure[:500],
    )


def wait_for_key(refused: ProviderRefused) -> None:
    """What has to be done waits for a key that Stripe takes. Raises ProviderAway."""
    if refused.reason == NOT_CONFIGURED:
        raise ProviderAway(str(refused)) from refused
