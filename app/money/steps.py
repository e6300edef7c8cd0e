"""Decide what is left to do for an order, given the money of its payments. Pure functions.

`steps_of` looks at the locked order and all its payments, not at what has just happened, so the
same events lead to the same result in whatever order they arrive. The steps are recorded in the
same transaction; after that, `steps_of` returns none of them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.lifecycle import INCORRECT_AMOUNT, Status
from app.money.ledger import Money
from app.money.statuses import MAX_FAILED_REFUNDS, PaymentStatus

INCORRECT_CURRENCY = "Incorrect currency"
REFUNDED = "The payment was refunded"


@dataclass(slots=True)
class PaymentState:
    """One payment of a locked order: its status, its money, and the refunds requested."""

    id: UUID
    status: PaymentStatus
    money: Money = field(default_factory=Money)
    refunds: dict[str, int] = field(default_factory=dict)
    """The amounts of our refunds, by id."""
    refused: set[str] = field(default_factory=set)
    """The ids of our refunds that the provider refused."""
    announced_minor: int = 0
    """How much of the refunded money has been announced, as `payment.refunded` events."""
    max_failed_refunds: int = MAX_FAILED_REFUNDS
    """How many refunds may fail before the payment is left to an operator."""

    def learn(self, money: Money) -> None:
        """Take the money computed from the ledger.

        `announced_minor` may decrease, because a refund can fail after it was reported as settled.
        """
        self.money = money
        reported = money.refunded_minor + money.refunding_minor
        self.announced_minor = min(self.announced_minor, reported)

    @property
    def unanswered(self) -> dict[str, int]:
        """The amounts of the refunds that the provider has not answered yet, by id."""
        answered = self.money.refunds_known | self.refused
        return {id: amount for id, amount in self.refunds.items() if id not in answered}

    @property
    def failed_refunds(self) -> int:
        """How many refunds were refused or failed."""
        return len(self.refused | self.money.refunds_failed)

    @property
    def owed_minor(self) -> int:
        """What the provider holds and no refund covers yet."""
        return max(0, self.money.staying_minor - sum(self.unanswered.values()))

    @property
    def may_request_refund(self) -> bool:
        """Whether another refund may be requested."""
        return self.failed_refunds < self.max_failed_refunds


@dataclass(frozen=True, slots=True)
class Succeed:
    """The payment settles the order: `payment.succeeded`."""

    payment: UUID


@dataclass(frozen=True, slots=True)
class Fail:
    """The payment failed while its order waited for it: `payment.failed`."""

    payment: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class Void:
    """The order does not wait for this pending payment, so its session is to be expired."""

    payment: UUID


@dataclass(frozen=True, slots=True)
class Cancel:
    """The captured money does not settle the order: `order.cancelled`."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestRefund:
    """A refund of `amount_minor` is requested from the provider: `payment.refund_requested`."""

    payment: UUID
    amount_minor: int


@dataclass(frozen=True, slots=True)
class GiveUpRefund:
    """All attempts to refund `amount_minor` failed; an operator has to act."""

    payment: UUID
    amount_minor: int


@dataclass(frozen=True, slots=True)
class AnnounceRefund:
    """`amount_minor` was refunded: `payment.refunded`. `wholly`: nothing of the payment is left."""

    payment: UUID
    amount_minor: int
    wholly: bool


@dataclass(frozen=True, slots=True)
class Follow:
    """The payment's status follows its money, about which no event is emitted.

    REFUNDING: refunds are on their way, whoever requested them. REFUNDED: all of it was announced
    before the last of its refunds had settled.
    """

    payment: UUID
    status: PaymentStatus


Step = Succeed | Fail | Void | Cancel | RequestRefund | GiveUpRefund | AnnounceRefund | Follow


def steps_of(
    status: Status, total_minor: int, currency: str, payments: Sequence[PaymentState]
) -> list[Step]:
    """Return the outstanding steps for an order of this status and total, in sequence."""
    steps: list[Step] = []
    keeper = _keeper(status, total_minor, currency, payments)
    others = [payment for payment in payments if payment is not keeper]
    if keeper:
        if keeper.status is not PaymentStatus.SUCCEEDED:
            steps.append(Succeed(keeper.id))
        steps += _announce(keeper, wholly=False)
    elif reason := _cancel_reason(status, total_minor, currency, payments):
        steps.append(Cancel(reason))
        status = Status.CANCELLED
    for payment in others:
        waited_for = status is Status.CREATED and keeper is None
        steps += _pending(payment, waited_for)
        steps += _unwanted(payment)
    return steps


def apply(state: PaymentState, step: Step, refund_id: str) -> None:
    """Apply a step to its payment's state; a requested refund gets the id `refund_id`."""
    match step:
        case Succeed():
            state.status = PaymentStatus.SUCCEEDED
        case Fail():
            state.status = PaymentStatus.FAILED
        case Void():
            state.status = PaymentStatus.VOIDED
        case RequestRefund():
            state.status = PaymentStatus.REFUNDING
            state.refunds[refund_id] = step.amount_minor
        case GiveUpRefund():
            state.status = PaymentStatus.REFUND_FAILED
        case AnnounceRefund():
            state.announced_minor += step.amount_minor
            if step.wholly:
                state.status = PaymentStatus.REFUNDED
        case Follow():
            state.status = step.status


def _keeper(
    status: Status, total_minor: int, currency: str, payments: Sequence[PaymentState]
) -> PaymentState | None:
    """Return the payment that the order keeps: the SUCCEEDED one, else the first that fits.

    A COMPLETED order keeps its payment even if money of it is refunded later.
    """
    if status is Status.CANCELLED:
        return None
    for payment in payments:
        if payment.status is PaymentStatus.SUCCEEDED:
            fits = status is Status.COMPLETED or _flaw(total_minor, currency, payment.money) is None
            return payment if fits else None
    came = (payment for payment in payments if payment.money.is_captured)
    return next((one for one in came if _flaw(total_minor, currency, one.money) is None), None)


def _flaw(total_minor: int, currency: str, money: Money) -> str | None:
    """Return why captured money does not settle an order; None if it does."""
    if money.currency != currency:
        return INCORRECT_CURRENCY
    if money.captured_minor != total_minor:
        return INCORRECT_AMOUNT
    return None if money.staying_minor == total_minor else REFUNDED


def _cancel_reason(
    status: Status, total_minor: int, currency: str, payments: Sequence[PaymentState]
) -> str | None:
    """Return why an order without a payment to keep is cancelled.

    None if no money was captured yet, or the order is final.
    """
    if status not in (Status.CREATED, Status.PAID):
        return None
    came = (payment.money for payment in payments if payment.money.is_captured)
    flaws = (_flaw(total_minor, currency, money) for money in came)
    # A payment without a flaw can be here only beside a SUCCEEDED one that has a flaw; it is being
    # refunded, so the order does not keep it.
    return next((flaw for flaw in flaws if flaw), None)


def _pending(payment: PaymentState, waited_for: bool) -> list[Step]:
    if payment.status is not PaymentStatus.PENDING:
        return []
    if not waited_for:
        return [Void(payment.id)]
    failure = payment.money.failure
    return [] if failure is None else [Fail(payment.id, failure)]


def _unwanted(payment: PaymentState) -> list[Step]:
    """Return the steps that refund all of this payment, which the order does not keep."""
    if not payment.money.is_captured:
        return []
    if owed := payment.owed_minor:
        if payment.may_request_refund:
            return [*_announce(payment, wholly=False), RequestRefund(payment.id, owed)]
        if payment.status is PaymentStatus.REFUND_FAILED:
            return _announce(payment, wholly=False)
        return [*_announce(payment, wholly=False), GiveUpRefund(payment.id, owed)]
    if payment.money.kept_minor:
        return [*_announce(payment, wholly=False), *_follow(payment, PaymentStatus.REFUNDING)]
    # A payment of 0 has nothing to refund, but its refund is announced once all the same.
    if payment.money.refunded_minor and payment.announced_minor == payment.money.refunded_minor:
        return _follow(payment, PaymentStatus.REFUNDED)
    return _announce(payment, wholly=True)


def _follow(payment: PaymentState, status: PaymentStatus) -> list[Step]:
    return [] if payment.status is status else [Follow(payment.id, status)]


def _announce(payment: PaymentState, wholly: bool) -> list[Step]:
    """Return the step that announces refunds which are not on the timeline yet."""
    unannounced = max(0, payment.money.refunded_minor - payment.announced_minor)
    ends = wholly and payment.status is not PaymentStatus.REFUNDED
    return [AnnounceRefund(payment.id, unannounced, wholly)] if unannounced or ends else []
