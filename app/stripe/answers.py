"""Record Stripe's answer to a call under the order's lock, like any report.

No lock or connection is held while a call is made; the calls are in `sessions.py` and `refunds.py`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from app import order_locks
from app.crashes import Point, crash_here
from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.lifecycle import Order
from app.money.locked_payments import LockedPayment, payments_of
from app.money.settle import settle
from app.stripe.api import NOT_CONFIGURED
from app.stripe.errors import ProviderAway, ProviderRefused
from app.stripe.events import assign_kept
from app.text import storable_error


class Answering(NamedTuple):
    """The transaction that records an answer, and the payment that the call is about."""

    transaction: Transaction
    locked: LockedPayment


@asynccontextmanager
async def answering(
    database: Database, call: Any, failure: str | None = None, again: timedelta | None = None
) -> AsyncIterator[Answering]:
    """Open the transaction in which the body records an answer, then settle the order.

    Events that waited for the payment's intent are assigned if the answer names it. After that the
    call is finished, or is made once more after `again`.
    """
    work = work_of(call)
    crash_here(Point.SENT, work)
    async with database.transaction(work) as transaction:
        order, payments, locked = await subject_of(transaction, call)
        yield Answering(transaction, locked)
        if locked.payment.payment_intent != call["payment_intent"]:
            await assign_kept(transaction, order, payments)
        settle(transaction, order, payments, call["request_id"])
        if again:
            await note_again(transaction.connection, call, failure, again)
        else:
            await note_done(transaction.connection, call, failure)


class Subject(NamedTuple):
    """What a call is about: an order, all its payments, and the payment `locked` among them."""

    order: Order
    payments: list[LockedPayment]
    locked: LockedPayment


async def subject_of(transaction: Transaction, call: Any) -> Subject:
    """Lock the call's order, and return it with its payments."""
    order, _ = await order_locks.lock_one(transaction, call["order_id"])
    payments = await payments_of(transaction, order.id)
    locked = next(one for one in payments if one.payment.id == call["payment_id"])
    return Subject(order, payments, locked)


def work_of(call: Any) -> str:
    """Return the call's name for crash points and transactions: `provider_calls.refund`."""
    return f"provider_calls.{call['kind']}"


async def note_done(connection: Any, call: Any, failure: str | None) -> None:
    """Finish the call: it was answered, or will never be made because of `failure`."""
    await sql.finish_call(
        connection,
        kind=call["kind"],
        subject_id=call["subject_id"],
        failure=failure and storable_error(failure),
    )


async def note_again(connection: Any, call: Any, failure: str | None, wait: timedelta) -> None:
    """Make the call, which was answered, due again after `wait`."""
    await sql.call_once_more(
        connection,
        kind=call["kind"],
        subject_id=call["subject_id"],
        wait=wait,
        failure=failure and storable_error(failure),
    )


def wait_for_key(refused: ProviderRefused) -> None:
    """Raise ProviderAway if the refusal is of the API key, so that the call is retried."""
    if refused.reason == NOT_CONFIGURED:
        raise ProviderAway(str(refused)) from refused
