"""Payments: requesting and capturing them, and refunding what an order must not keep."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from app import idempotency, order_locks
from app.db.pools import Database
from app.db.queries import sql
from app.db.rows import IdempotencyKey, PaymentRow
from app.db.transaction import Transaction
from app.errors import NotPayable, PayAtStripe, PaymentInProgress, Problem, StaleVersion
from app.identity.tokens import Identity
from app.ids import new_id
from app.lifecycle import Order, payable, payment_flaw
from app.money.amounts import to_major
from app.money.ledger import Fact
from app.money.locked_payments import INTERNAL, find, lock_with_payments, payments_of, report
from app.money.settle import payment_fields, settle
from app.money.statuses import MAX_FAILED_REFUNDS, PaymentStatus
from app.order_json import changed_order_json
from app.topics import OrderCancelled, PaymentRequested, RefundRequested


class PayOrder(NamedTuple):
    """The command to pay an order through the internal provider."""

    user: Identity
    order_id: UUID
    amount_minor: int | None
    """None means the order's exact total."""
    versions: frozenset[int] | None
    """The order's version must be one of these; None accepts any."""
    key: IdempotencyKey | None
    request_id: str
    pays_internally: bool = True
    """Whether the internal provider pays more than orders of 0."""


async def request_payment(database: Database, command: PayOrder) -> dict[str, Any]:
    """Start a payment attempt; return the order, which is still CREATED.

    Raises OrderNotFound, Forbidden, StaleVersion, NotPayable, PayAtStripe, PaymentInProgress,
    IdempotencyKeyReused, IdempotencyInProgress.
    """
    # A request with a key that could not be batched is mostly a replay.
    if command.key and (stored := await idempotency.recall(database, command.key)):
        return stored
    try:
        async with database.transaction("payments.request_payment") as transaction:
            if answer := await idempotency.claim(transaction, command.key):
                return answer
            order, row = await order_locks.lock_one(transaction, command.order_id)
            _require_payable(order, command)
            answer = _start_attempt(transaction, order, row, command)
    except asyncpg.UniqueViolationError:
        raise PaymentInProgress from None
    return answer


async def request_payments_together(
    database: Database, commands: Sequence[PayOrder]
) -> list[dict[str, Any] | None]:
    """Start all plain payments in one statement; return None for those to be requested alone.

    Not plain are requests with an error, those with a key that is in use, and those for an order
    that has a live attempt. Raises one of CONFLICT when concurrent requests or events make a second
    attempt fail, too.
    """
    keys = [command.key for command in commands]
    request = partial(_request_those, database, commands)
    return await idempotency.try_together(database, keys, request)


async def _request_those(
    database: Database, commands: Sequence[PayOrder], free: idempotency.Keys
) -> list[dict[str, Any] | None]:
    answers: dict[int, dict[str, Any]] = {}
    async with database.single_statement("payments.request_payments_together") as transaction:
        order_ids = [command.order_id for command in commands]
        orders = await order_locks.read_whole(transaction, order_ids)
        orders = {id: read for id, read in orders.items() if not read[1]["live_payment"]}
        for n in idempotency.may_go_on([command.key for command in commands], free):
            command = commands[n]
            if command.order_id not in orders:
                continue
            order, row = orders[command.order_id]
            with suppress(Problem):
                _require_payable(order, command)
                answers[n] = _start_attempt(transaction, order, row, command)
                # A second payment of the same order in this batch has to be requested alone.
                del orders[command.order_id]
    return [answers.get(n) for n in range(len(commands))]


def _require_payable(order: Order, command: PayOrder) -> None:
    command.user.require_owner(order.user_id)
    if command.versions is not None and order.version not in command.versions:
        raise StaleVersion
    if not payable(order.status):
        raise NotPayable
    if order.total_minor and not command.pays_internally:
        raise PayAtStripe


def _start_attempt(
    transaction: Transaction, order: Order, row: Mapping[str, Any], command: PayOrder
) -> dict[str, Any]:
    """Create the attempt; return the order as clients see it with the attempt in progress."""
    amount = order.total_minor if command.amount_minor is None else command.amount_minor
    payment = PaymentRow(new_id(), order.id, INTERNAL, amount, order.currency)
    transaction.payments[payment.id] = payment
    transaction.emit(
        PaymentRequested,
        order,
        command.request_id,
        **payment_fields(payment),
        expectedAmount=to_major(order.total_minor),
    )
    answer = changed_order_json(row, order)
    idempotency.store_answer(transaction, command.key, answer)
    return answer


async def capture(transaction: Transaction, events: Sequence[PaymentRequested]) -> None:
    """Capture requested payments that their orders wait for; a wrong amount fails the payment."""
    orders, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        order, payments = orders[event.order_id], all_payments[event.order_id]
        # This voids attempts that the order does not wait for: one still pending is to be captured.
        settle(transaction, order, payments, event.requestId)
        locked = find(payments, event.paymentId, PaymentStatus.PENDING)
        if locked and locked.payment.provider == INTERNAL:
            amount = locked.payment.amount_minor
            flaw = payment_flaw(amount, order.total_minor)
            fact = Fact.failed(flaw) if flaw else Fact.captured(amount, order.currency)
            report(transaction, locked, fact, f"{fact.kind} {locked.payment.id}")
            settle(transaction, order, payments, event.requestId)


async def request_refunds(transaction: Transaction, events: Sequence[OrderCancelled]) -> None:
    """Request refunds for cancelled orders, and void their pending payments."""
    orders, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        order = orders[event.order_id]
        settle(transaction, order, all_payments[order.id], event.requestId)


async def refund(transaction: Transaction, events: Sequence[RefundRequested]) -> None:
    """Carry out requested refunds through the internal provider, which settles them at once."""
    orders, all_payments = await lock_with_payments(transaction, events)
    for event in events:
        order, payments = orders[event.order_id], all_payments[event.order_id]
        locked = find(payments, event.paymentId, PaymentStatus.REFUNDING)
        if locked and locked.payment.provider == INTERNAL:
            for id, amount in locked.state.unanswered.items():
                fact = Fact.refund(id, amount, "succeeded", id)
                report(transaction, locked, fact, f"refunded {id}")
            settle(transaction, order, payments, event.requestId)


async def retry_refund(
    database: Database, payment_id: UUID, request_id: str
) -> PaymentStatus | None:
    """Retry the refund of a payment; return the payment's status then, None if it had not failed.

    It may fail as often as at first before it is left to an operator again. Nothing is asked for
    if the money went back by then; the payment is not REFUNDING in that case.
    """
    async with database.transaction("payments.retry_refund") as transaction:
        order_id = await sql.order_of_payment(transaction.connection, id=payment_id)
        if order_id is None:
            return None
        order, _ = await order_locks.lock_one(transaction, order_id)
        payments = await payments_of(transaction, order_id)
        locked = next(one for one in payments if one.payment.id == payment_id)
        if locked.state.status is not PaymentStatus.REFUND_FAILED:
            return None
        locked.payment.max_failed_refunds = locked.state.failed_refunds + MAX_FAILED_REFUNDS
        locked.state.max_failed_refunds = locked.payment.max_failed_refunds
        settle(transaction, order, payments, request_id)
    return locked.state.status
