"""What an order and the money of its payments lead to, pure.

`steps_of` looks at the whole: the order under its lock, and every payment of it. It does not ask
what has just happened, so whatever happened, in whatever order, ends in the same place. Its steps
are noted in the transaction that looked; then the same question has no answer left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.lifecycle import INCORRECT_AMOUNT, REFUND_ATTEMPTS, PaymentStatus, Status
from app.money.ledger import Money

INCORRECT_CURRENCY = "Incorrect currency"
REFUNDED = "The payment was refunded"


@dataclass(slots=True)
class PaymentState:
    """One payment of a locked order: where it stands, its money, and the refunds asked for."""

    id: UUID
    status: PaymentStatus
    money: Money = field(default_factory=Money)
    refunds: dict[str, int] = field(default_factory=dict)
    """Our refunds by id, with their amounts."""
    refused: set[str] = field(default_factory=set)
    """Those that the provider would not take."""
    told_minor: int = 0
    """How much of what went back stands on the timeline."""
    attempts: int = REFUND_ATTEMPTS
    """How many refunds may come to nothing."""

    def learn(self, money: Money) -> None:
        """Take what the ledger tells. A refund can fail after it was told as settled."""
        self.money = money
        self.told_minor = min(self.told_minor, money.refunded_minor + money.returning_minor)

    @property
    def unanswered(self) -> dict[str, int]:
        """The refunds that the provider has said nothing of, with their amounts."""
        answered = self.money.refunds_known | self.refused
        return {id: amount for id, amount in self.refunds.items() if id not in answered}

    @property
    def failed_refunds(self) -> int:
        """How many refunds came to nothing."""
        return len(self.refused | self.money.refunds_failed)

    @property
    def owed_minor(self) -> int:
        """What is with the provider and not on its way back."""
        return max(0, self.money.staying_minor - sum(self.unanswered.values()))

    @property
    def may_ask(self) -> bool:
        """Whether another refund may be tried."""
        return self.failed_refunds < self.attempts


@dataclass(frozen=True, slots=True)
class Succeed:
    """The payment settles the order: `payment.succeeded`."""

    payment: UUID


@dataclass(frozen=True, slots=True)
class Fail:
    """The payment came to nothing while its order waited for it: `payment.failed`."""

    payment: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class Void:
    """The order waits for this payment no more: nobody may pay it from here on."""

    payment: UUID


@dataclass(frozen=True, slots=True)
class Cancel:
    """The order cannot be had with the money that came: `order.cancelled`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Return:
    """The provider is asked to give back `amount_minor`: `payment.refund_requested`."""

    payment: UUID
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Park:
    """`amount_minor` could not be given back, however often it was tried."""

    payment: UUID
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Returned:
    """`amount_minor` went back: `payment.refunded`. `wholly`: the payment holds no more."""

    payment: UUID
    amount_minor: int
    wholly: bool


Step = Succeed | Fail | Void | Cancel | Return | Park | Returned


def steps_of(
    status: Status, total_minor: int, currency: str, payments: Sequence[PaymentState]
) -> list[Step]:
    """What is to be done, in this order, for an order of this status and total."""
    steps: list[Step] = []
    keeper = _keeper(status, total_minor, currency, payments)
    others = [payment for payment in payments if payment is not keeper]
    if keeper:
        if keeper.status is not PaymentStatus.SUCCEEDED:
            steps.append(Succeed(keeper.id))
        steps += _told(keeper, wholly=False)
    elif reason := _cancel_reason(status, total_minor, currency, payments):
        steps.append(Cancel(reason))
        status = Status.CANCELLED
    for payment in others:
        waited_for = status is Status.CREATED and keeper is None
        steps += _pending(payment, waited_for)
        steps += _unwanted(payment)
    return steps


def note(state: PaymentState, step: Step, refund_id: str) -> None:
    """Note a step of this payment; a refund that is asked for becomes refund `refund_id`."""
    match step:
        case Succeed():
            state.status = PaymentStatus.SUCCEEDED
        case Fail():
            state.status = PaymentStatus.FAILED
        case Void():
            state.status = PaymentStatus.VOIDED
        case Return():
            state.status = PaymentStatus.REFUNDING
            state.refunds[refund_id] = step.amount_minor
        case Park():
            state.status = PaymentStatus.PARKED
        case Returned():
            state.told_minor += step.amount_minor
            if step.wholly:
                state.status = PaymentStatus.REFUNDED


def _keeper(
    status: Status, total_minor: int, currency: str, payments: Sequence[PaymentState]
) -> PaymentState | None:
    """The payment whose money the order keeps: the one it has, else the first that fits.

    What a COMPLETED order has is its own, whatever goes back of it later.
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
    """Why captured money does not settle an order; None where it does."""
    if money.currency != currency:
        return INCORRECT_CURRENCY
    if money.captured_minor != total_minor:
        return INCORRECT_AMOUNT
    return None if money.staying_minor == total_minor else REFUNDED


def _cancel_reason(
    status: Status, total_minor: int, currency: str, payments: Sequence[PaymentState]
) -> str | None:
    """Why an order that has no money to keep is cancelled; None where it waits, or is final."""
    if status not in (Status.CREATED, Status.PAID):
        return None
    came = (payment.money for payment in payments if payment.money.is_captured)
    flaws = (_flaw(total_minor, currency, money) for money in came)
    # Another payment may fit and be on its way back: that is none of the order's money.
    return next((flaw for flaw in flaws if flaw), None)


def _pending(payment: PaymentState, waited_for: bool) -> list[Step]:
    if payment.status is not PaymentStatus.PENDING:
        return []
    if not waited_for:
        return [Void(payment.id)]
    failure = payment.money.failure
    return [] if failure is None else [Fail(payment.id, failure)]


def _unwanted(payment: PaymentState) -> list[Step]:
    """All of this money goes back."""
    if not payment.money.is_captured:
        return []
    if owed := payment.owed_minor:
        if payment.may_ask:
            return [*_told(payment, wholly=False), Return(payment.id, owed)]
        parked = payment.status is PaymentStatus.PARKED
        return _told(payment, wholly=False) + ([] if parked else [Park(payment.id, owed)])
    return _told(payment, wholly=payment.money.kept_minor == 0)


def _told(payment: PaymentState, wholly: bool) -> list[Step]:
    """What went back and does not stand on the timeline yet."""
    untold = max(0, payment.money.refunded_minor - payment.told_minor)
    ends = wholly and payment.status is not PaymentStatus.REFUNDED
    return [Returned(payment.id, untold, wholly)] if untold or ends else []
