"""What a payment's money is, pure: worked out from all that its provider reported of it.

It is never moved by one report, so neither the order of arrival nor a repetition matters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

CHECKOUT_EXPIRED = "The checkout expired"


class Kind(StrEnum):
    """What a report says of a payment."""

    CAPTURED = "captured"
    FAILED = "failed"
    REFUND = "refund"
    REFUNDED_IN_ALL = "refunded_in_all"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a provider reports of a payment; amounts are in minor units."""

    kind: Kind
    amount_minor: int = 0
    currency: str | None = None
    refund: str | None = None
    """The provider's id of a refund."""
    refund_status: str | None = None
    refund_id: str | None = None
    """Our id of that refund, where it was we who asked for it."""
    reason: str | None = None


def captured(amount_minor: int, currency: str) -> Fact:
    """The customer's money is with the provider."""
    return Fact(Kind.CAPTURED, amount_minor, currency)


def failed(reason: str) -> Fact:
    """There will be no money."""
    return Fact(Kind.FAILED, reason=reason)


def expired() -> Fact:
    """There will be no money: the customer has left."""
    return failed(CHECKOUT_EXPIRED)


def refund(id: str, amount_minor: int, status: str, refund_id: str | None = None) -> Fact:
    """Where one refund stands."""
    return Fact(Kind.REFUND, amount_minor, refund=id, refund_status=status, refund_id=refund_id)


def refunded_in_all(amount_minor: int) -> Fact:
    """What has gone back of the payment, all refunds together."""
    return Fact(Kind.REFUNDED_IN_ALL, amount_minor)


UNDER_WAY, SETTLED, LOST = 0, 1, 2


def _stage(refund: Fact) -> int:
    """A refund only moves on: under way, then settled; even that can be lost in the end."""
    if refund.refund_status in ("failed", "canceled"):
        return LOST
    return SETTLED if refund.refund_status == "succeeded" else UNDER_WAY


@dataclass(frozen=True, slots=True)
class Money:
    """What is known of a payment's money, in minor units."""

    captured_minor: int = 0
    currency: str | None = None
    refunded_minor: int = 0
    returning_minor: int = 0
    """Of refunds that the provider has accepted and not settled yet."""
    refunds_known: frozenset[str] = frozenset()
    """Our refunds that the provider knows, by our ids."""
    refunds_failed: frozenset[str] = frozenset()
    failure: str | None = None

    @property
    def is_captured(self) -> bool:
        """Whether there was any: an order of 0 is paid with 0."""
        return self.currency is not None

    @property
    def kept_minor(self) -> int:
        """What has not gone back."""
        return self.captured_minor - self.refunded_minor

    @property
    def staying_minor(self) -> int:
        """What has not gone back and is not about to."""
        return self.kept_minor - self.returning_minor


def money_of(facts: Iterable[Fact]) -> Money:
    """The money that `facts`, in any order and however often each, tell of."""
    told = list(facts)
    captures = [fact for fact in told if fact.kind is Kind.CAPTURED]
    capture = max(captures, key=lambda fact: (fact.amount_minor, fact.currency or ""), default=None)
    total = capture.amount_minor if capture else 0
    refunds = _latest(told)
    gone = min(total, _gone(told, refunds))
    ours = [one for one in refunds if one.refund_id]
    return Money(
        captured_minor=total,
        currency=capture.currency if capture else None,
        refunded_minor=gone,
        returning_minor=min(_sum(refunds, UNDER_WAY), total - gone),
        refunds_known=frozenset(one.refund_id or "" for one in ours),
        refunds_failed=frozenset(one.refund_id or "" for one in ours if _stage(one) == LOST),
        failure=max((fact.reason or "" for fact in told if fact.kind is Kind.FAILED), default=None),
    )


def _gone(told: Iterable[Fact], refunds: Iterable[Fact]) -> int:
    """What the refunds tell, or the sum over all of them where that tells of more.

    The sum counts a refund that is under way as gone, and one that failed after the sum was told.
    """
    in_all = max((f.amount_minor for f in told if f.kind is Kind.REFUNDED_IN_ALL), default=0)
    unsettled = _sum(refunds, UNDER_WAY) + _sum(refunds, LOST)
    return max(_sum(refunds, SETTLED), in_all - unsettled)


def _sum(refunds: Iterable[Fact], stage: int) -> int:
    return sum(one.amount_minor for one in refunds if _stage(one) == stage)


def _latest(facts: Iterable[Fact]) -> list[Fact]:
    """Each refund once, where it stands last."""
    latest: dict[str | None, Fact] = {}
    for fact in facts:
        if fact.kind is Kind.REFUND:
            known = latest.get(fact.refund)
            if known is None or _stage(fact) > _stage(known):
                latest[fact.refund] = fact
    return list(latest.values())
