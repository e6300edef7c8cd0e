"""The rules of an order, pure: no I/O, no clock, no framework.

CREATED ──> PAID ──> COMPLETED
   │          │
   └──────────┴────> CANCELLED
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """Where an order stands. COMPLETED and CANCELLED are final."""

    CREATED = "CREATED"
    PAID = "PAID"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.PAID, Status.CANCELLED}),
    Status.PAID: frozenset({Status.COMPLETED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.CANCELLED: frozenset(),
}

INCORRECT_AMOUNT = "Incorrect amount"
OUT_OF_STOCK = "Out of stock"
CANCELLED_BY_OWNER = "Cancelled by the customer"
CANCELLED_BY_ADMIN = "Cancelled by an administrator"
EXPIRED = "expired"


class IllegalMove(Exception):
    """Raised when an order is moved to where its state does not lead: a bug, never bad input."""


@dataclass(slots=True)
class Order:
    """One order as a transaction has locked or read it: what the rules look at and change.

    `version` counts the order's events: it is the ETag and the `sequence` of its latest event.
    """

    id: UUID
    user_id: UUID
    status: Status
    version: int
    total_minor: int
    currency: str
    customer_email: str | None
    cancel_reason: str | None
    updated_at: datetime

    def may_become(self, status: Status) -> bool:
        """Whether the lifecycle leads from here to `status`."""
        return status in MOVES[self.status]

    def become(self, status: Status, reason: str | None = None) -> None:
        """Move to `status`; `reason` says why an order is cancelled.

        Raises IllegalMove when the lifecycle does not lead there.
        """
        if not self.may_become(status):
            raise IllegalMove(f"order {self.id}: {self.status} does not lead to {status}")
        self.status = status
        self.cancel_reason = reason

    def advance(self, now: datetime) -> int:
        """Count one more event and return its sequence."""
        self.version += 1
        self.updated_at = now
        return self.version


def payable(status: Status) -> bool:
    """Whether an order of this status takes a payment, unless one is live already."""
    return status is Status.CREATED


def cancellable(status: Status) -> bool:
    """Whether an order of this status may be cancelled by hand."""
    return Status.CANCELLED in MOVES[status]


class PaymentStatus(StrEnum):
    """Where a payment attempt stands.

    VOIDED: its order was not payable any more. PARKED: its refund was refused too often, and an
    operator has to look.
    """

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    VOIDED = "VOIDED"
    REFUNDING = "REFUNDING"
    REFUNDED = "REFUNDED"
    PARKED = "PARKED"


LIVE = frozenset({PaymentStatus.PENDING, PaymentStatus.SUCCEEDED})
"""Of these an order has one attempt at most."""


REFUND_ATTEMPTS = 5
"""How often a refund is asked for before it is parked for an operator."""


@dataclass(slots=True)
class Payment:
    """One attempt to pay an order, through `provider`."""

    id: UUID
    order_id: UUID
    provider: str
    amount_minor: int
    currency: str
    status: PaymentStatus = PaymentStatus.PENDING
    failure_reason: str | None = None
    requested: bool = True
    """Whether it was asked for here, or a provider told of it by itself."""
    session_id: str | None = None
    """Stripe's Checkout Session; `payment_intent` is Stripe's too."""
    payment_intent: str | None = None
    checkout_url: str | None = None
    """Where the customer pays."""
    expires_at: datetime | None = None
    """When the session ends."""
    captured_minor: int = 0
    captured_currency: str | None = None
    refunded_minor: int = 0
    told_minor: int = 0
    """How much of what went back stands on the timeline."""
    refund_attempts: int = REFUND_ATTEMPTS
    """How many refunds may come to nothing before an operator has to look."""


def payment_flaw(amount_minor: int, expected_minor: int) -> str | None:
    """Why a payment of `amount_minor` does not settle `expected_minor`; None when it does."""
    return None if amount_minor == expected_minor else INCORRECT_AMOUNT


def shortages(wanted: Mapping[UUID, int], available: Mapping[UUID, int]) -> dict[UUID, int]:
    """By product, how many pieces are missing; empty when every line can be served."""
    missing = {product: pieces - available.get(product, 0) for product, pieces in wanted.items()}
    return {product: pieces for product, pieces in missing.items() if pieces > 0}
