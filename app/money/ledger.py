"""The state of a payment's money, computed from all that its provider reported. Pure functions.

The state is always recomputed from all facts and never updated by a single report, so neither the
order of arrival nor duplicates matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

CHECKOUT_EXPIRED = "The checkout expired"
PAYMENT_FAILED = "The payment failed"


class Kind(StrEnum):
    """What a provider's report says about a payment."""

    CAPTURED = "captured"
    FAILED = "failed"
    REFUND = "refund"
    REFUNDED_IN_ALL = "refunded_in_all"


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact that a provider reports about a payment; amounts are in minor units."""

    kind: Kind
    amount_minor: int = 0
    currency: str | None = None
    provider_refund_id: str | None = None
    """The provider's id of a refund, as Stripe's `re_…`."""
    refund_status: str | None = None
    refund_id: str | None = None
    """Our id of that refund (`refunds.id`), if this service requested it."""
    reason: str | None = None

    @classmethod
    def captured(cls, amount_minor: int, currency: str) -> "Fact":
        """Return the fact that the provider has captured the customer's money."""
        return cls(Kind.CAPTURED, amount_minor, currency)

    @classmethod
    def failed(cls, reason: str) -> "Fact":
        """Return the fact that the payment failed."""
        return cls(Kind.FAILED, reason=reason)

    @classmethod
    def expired(cls) -> "Fact":
        """Return the fact that the payment failed because its checkout expired."""
        return cls.failed(CHECKOUT_EXPIRED)

    @classmethod
    def refund(
        cls, id: str, amount_minor: int, status: str, refund_id: str | None = None
    ) -> "Fact":
        """Return the fact that refund `id` of the provider, our `refund_id`, has this status."""
        return cls(Kind.REFUND, amount_minor, None, id, status, refund_id)

    @classmethod
    def refunded_in_all(cls, amount_minor: int) -> "Fact":
        """Return the fact of how much of the payment is refunded, all refunds together."""
        return cls(Kind.REFUNDED_IN_ALL, amount_minor)


UNDER_WAY, SETTLED, LOST = 0, 1, 2
LOST_STATUSES = ("failed", "canceled")
"""Final statuses of what has not arrived: https://docs.stripe.com/api/refunds/object#refund_object-status."""


def _stage(refund: Fact) -> int:
    """Return the refund's stage, which only increases: a settled refund can still be lost."""
    if refund.refund_status in LOST_STATUSES:
        return LOST
    return SETTLED if refund.refund_status == "succeeded" else UNDER_WAY


@dataclass(frozen=True, slots=True)
class Money:
    """What is known about a payment's money, in minor units."""

    captured_minor: int = 0
    currency: str | None = None
    refunded_minor: int = 0
    refunding_minor: int = 0
    """The sum of refunds that the provider has accepted and not settled yet."""
    refunds_known: frozenset[str] = frozenset()
    """Our ids of the refunds that the provider has reported."""
    refunds_failed: frozenset[str] = frozenset()
    """Our ids of those that failed or were cancelled."""
    failure: str | None = None

    @property
    def is_captured(self) -> bool:
        """Whether a capture was reported, possibly of 0: an order of 0 is paid with 0."""
        return self.currency is not None

    @property
    def kept_minor(self) -> int:
        """What was captured and is not refunded."""
        return self.captured_minor - self.refunded_minor

    @property
    def staying_minor(self) -> int:
        """What was captured and is neither refunded nor being refunded."""
        return self.kept_minor - self.refunding_minor


def money_of(facts: Iterable[Fact]) -> Money:
    """Compute the money from `facts`, which may come in any order and more than once."""
    told = list(facts)
    captures = [fact for fact in told if fact.kind is Kind.CAPTURED]
    capture = max(captures, key=lambda fact: (fact.amount_minor, fact.currency or ""), default=None)
    total = capture.amount_minor if capture else 0
    refunds = _latest(told)
    refunded = min(total, _refunded(told, refunds))
    # A refund is ours if any report of it says so: its metadata may have changed since.
    ours = [fact for fact in told if fact.refund_id]
    lost = {one.provider_refund_id for one in refunds if _stage(one) == LOST}
    return Money(
        captured_minor=total,
        currency=capture.currency if capture else None,
        refunded_minor=refunded,
        refunding_minor=min(_sum(refunds, UNDER_WAY), total - refunded),
        refunds_known=frozenset(one.refund_id or "" for one in ours),
        refunds_failed=frozenset(
            one.refund_id or "" for one in ours if one.provider_refund_id in lost
        ),
        failure=max((fact.reason or "" for fact in told if fact.kind is Kind.FAILED), default=None),
    )


def _refunded(told: Iterable[Fact], refunds: Iterable[Fact]) -> int:
    """Return what is refunded: the settled refunds, or the reported total if that implies more.

    The reported total includes refunds under way, and those that failed after it was reported, so
    both are subtracted from it.
    """
    in_all = max((f.amount_minor for f in told if f.kind is Kind.REFUNDED_IN_ALL), default=0)
    unsettled = _sum(refunds, UNDER_WAY) + _sum(refunds, LOST)
    return max(_sum(refunds, SETTLED), in_all - unsettled)


def _sum(refunds: Iterable[Fact], stage: int) -> int:
    return sum(one.amount_minor for one in refunds if _stage(one) == stage)


def _latest(facts: Iterable[Fact]) -> list[Fact]:
    """Return each refund once, at its highest stage."""
    latest: dict[str | None, Fact] = {}
    for fact in facts:
        if fact.kind is Kind.REFUND:
            known = latest.get(fact.provider_refund_id)
            if known is None or _stage(fact) > _stage(known):
                latest[fact.provider_refund_id] = fact
    return list(latest.values())
