"""The rules of an order, as pure functions: no I/O, no clock, no framework.

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
    """The status of an order. COMPLETED and CANCELLED are final."""

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
    """Raised for a status change that the lifecycle does not allow: a bug, never bad input."""


@dataclass(slots=True)
class Order:
    """An order as a transaction has locked or read it, with the fields that the rules need.

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
        """Return whether the lifecycle allows a change to `status`."""
        return status in MOVES[self.status]

    def become(self, status: Status, reason: str | None = None) -> None:
        """Change to `status`; `reason` says why an order is cancelled.

        Raises IllegalMove when the lifecycle does not allow it.
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
    """Return whether an order of this status can be paid, unless an attempt is live already."""
    return status is Status.CREATED


def cancellable(status: Status) -> bool:
    """Return whether its owner or an administrator may cancel an order of this status."""
    return Status.CANCELLED in MOVES[status]


def payment_flaw(amount_minor: int, expected_minor: int) -> str | None:
    """Return why a payment of `amount_minor` does not settle `expected_minor`; None if it does."""
    return None if amount_minor == expected_minor else INCORRECT_AMOUNT


def shortages(wanted: Mapping[UUID, int], available: Mapping[UUID, int]) -> dict[UUID, int]:
    """Return the missing pieces by product; empty when all can be reserved."""
    missing = {product: pieces - available.get(product, 0) for product, pieces in wanted.items()}
    return {product: pieces for product, pieces in missing.items() if pieces > 0}
