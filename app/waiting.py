"""What an order waits for, and what may be done about it: pure functions of the facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from app.lifecycle import Status, cancellable, payable
from app.money.statuses import LIVE, MAX_ATTEMPTS, PaymentStatus


class Waiting(NamedTuple):
    """What the order waits for, and since when."""

    what: str
    since: datetime


class Timer(NamedTuple):
    """What the order's next timer does, and when."""

    kind: str
    at: datetime


CUSTOMER = "payment by the customer"


class Attempt(NamedTuple):
    """A payment attempt: its status, when it was created, and when it was last updated.

    `checkout` is the status of its checkout at Stripe, REQUESTED or READY; None without one.
    """

    status: PaymentStatus
    created_at: datetime
    updated_at: datetime
    checkout: str | None = None
    ended_at: datetime | None = None
    """When its checkout ended; None while it may be open."""
    completed_at: datetime | None = None
    """When the customer completed its checkout with a delayed payment, if Stripe has said so."""


@dataclass(frozen=True, slots=True)
class Facts:
    """An order, and the rows about it that explain what it waits for."""

    order_id: UUID
    user_id: UUID
    status: Status
    created_at: datetime
    updated_at: datetime
    total_minor: int = 0
    due_at: datetime | None = None
    """When the order is cancelled if it is still unpaid."""
    refund_due_at: datetime | None = None
    """When the next call of Stripe for a refund that has not settled is due."""
    closing_due_at: datetime | None = None
    """When the next call of Stripe is due that closes the checkout of a voided attempt.

    It opens the checkout first, where the answer to an earlier call was lost.
    """
    attempts: Sequence[Attempt] = ()
    tries: int = 0
    """How many of the attempts count towards MAX_ATTEMPTS."""
    outcome: str | None = None
    """Inventory's decision, made at `decided_at`."""
    decided_at: datetime | None = None
    unsent: tuple[str, datetime] | None = None
    """Topic and time of the oldest event that is not marked as published."""
    pays_internally: bool = True
    """Whether the internal provider pays more than orders of 0."""

    @property
    def latest(self) -> Mapping[PaymentStatus, Attempt]:
        """The latest attempt of each status."""
        return {attempt.status: attempt for attempt in self.attempts}


def waiting_for(facts: Facts) -> Waiting | None:
    """Return the order's next step, None if nothing is left to do. The relay precedes any agent."""
    step = _next_step(facts)
    if step and step.what != CUSTOMER and facts.unsent:
        topic, occurred_at = facts.unsent
        return Waiting(f"the relay, to send {topic}", occurred_at)
    return step


def _next_step(facts: Facts) -> Waiting | None:
    match facts.status:
        case Status.CREATED:
            return _payment(facts)
        case Status.PAID:
            return _stock(facts)
        case Status.COMPLETED:
            return _refund(facts) or _closing(facts)
        case Status.CANCELLED:
            return _after_cancellation(facts)


def _payment(facts: Facts) -> Waiting:
    if pending := facts.latest.get(PaymentStatus.PENDING):
        return _pending(pending)
    if captured := facts.latest.get(PaymentStatus.SUCCEEDED):
        return Waiting("the order-status agent, to mark it paid", captured.updated_at)
    failed = facts.latest.get(PaymentStatus.FAILED)
    # A checkout that Stripe refused to open does not cancel the order: it can be paid otherwise.
    if failed and failed.checkout != "REQUESTED":
        return Waiting("the order-status agent, to cancel it", failed.updated_at)
    return Waiting(CUSTOMER, facts.created_at)


def _pending(attempt: Attempt) -> Waiting:
    match attempt.checkout:
        case "READY" if attempt.completed_at:
            what = "Stripe, to receive the payment, which is on its way"
            return Waiting(what, attempt.completed_at)
        case "READY" if attempt.ended_at:
            return Waiting("Stripe, to tell what became of the checkout", attempt.ended_at)
        case "READY":
            return Waiting(CUSTOMER, attempt.updated_at)
        case "REQUESTED":
            return Waiting("Stripe, to open the checkout", attempt.created_at)
    return Waiting("the payment agent, to capture the money", attempt.created_at)


def _stock(facts: Facts) -> Waiting:
    if facts.decided_at is None:
        return Waiting("the inventory agent, to reserve the stock", facts.updated_at)
    end = "complete" if facts.outcome == "RESERVED" else "cancel"
    return Waiting(f"the order-status agent, to {end} it", facts.decided_at)


def _after_cancellation(facts: Facts) -> Waiting | None:
    if PaymentStatus.SUCCEEDED in facts.latest:
        return Waiting("the payment agent, to request the refund", facts.updated_at)
    if PaymentStatus.PENDING in facts.latest:
        return Waiting("the payment agent, to void the attempt", facts.updated_at)
    if refund := _refund(facts):
        return refund
    if facts.outcome == "RESERVED":
        return Waiting("the inventory agent, to release the stock", facts.updated_at)
    return _closing(facts)


def _refund(facts: Facts) -> Waiting | None:
    """Return the refund that the order waits for; a completed order may have been paid twice."""
    if refunding := facts.latest.get(PaymentStatus.REFUNDING):
        who = "Stripe" if refunding.checkout else "the payment agent"
        return Waiting(f"{who}, to refund the money", refunding.updated_at)
    if failed := facts.latest.get(PaymentStatus.REFUND_FAILED):
        return Waiting("an operator, to refund the money", failed.updated_at)
    return None


def _closing(facts: Facts) -> Waiting | None:
    """Return the checkout that is to be closed; a completed order was then paid otherwise."""
    voided = [one for one in facts.attempts if one.status is PaymentStatus.VOIDED]
    if not (voided and facts.closing_due_at):
        return None
    return Waiting("Stripe, to close the checkout", voided[-1].updated_at)


def next_timer(facts: Facts) -> Timer | None:
    """Return what happens to the order by itself next; None if nothing is planned."""
    if facts.status is Status.CREATED and facts.due_at:
        return Timer("expiry", facts.due_at)
    calls = {"refund": facts.refund_due_at, "closing": facts.closing_due_at}
    timers = [Timer(kind, at) for kind, at in calls.items() if at]
    return min(timers, key=lambda timer: timer.at, default=None)


def actions(facts: Facts) -> list[str]:
    """Return the actions that the order's endpoints would allow."""
    live = [attempt for attempt in facts.attempts if attempt.status in LIVE]
    free = all(one.checkout and one.status is PaymentStatus.PENDING for one in live)
    more = live or facts.tries < MAX_ATTEMPTS
    internal = facts.pays_internally or facts.total_minor == 0
    allowed = {
        "pay": payable(facts.status) and not live and internal,
        "checkout": payable(facts.status) and free and more and facts.total_minor > 0,
        "cancel": cancellable(facts.status),
    }
    return [action for action, may in allowed.items() if may]
