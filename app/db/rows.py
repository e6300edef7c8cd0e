"""The rows that a transaction writes, as values; stock is written as counts of pieces."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from app.money.ledger import Kind
from app.money.statuses import MAX_FAILED_REFUNDS, PaymentStatus

CallKind = Literal["session", "expire", "refund"]

KeyId = tuple[UUID, str]
"""A user, and the name of one of their keys."""


@dataclass(frozen=True, slots=True)
class OrderRow:
    """A new order's row, with the deadline for its payment (`due_at`)."""

    id: UUID
    user_id: UUID
    customer_email: str | None
    total_minor: int
    currency: str
    created_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class LineRow:
    """A new order's line; `line` counts from 1."""

    order_id: UUID
    line: int
    product_id: UUID
    quantity: int
    unit_price_minor: int


@dataclass(slots=True)
class PaymentRow:
    """One attempt to pay an order, through `provider`."""

    id: UUID
    order_id: UUID
    provider: str
    amount_minor: int
    currency: str
    status: PaymentStatus = PaymentStatus.PENDING
    failure_reason: str | None = None
    requested: bool = True
    """Whether it was requested here; False if a provider reported it unasked."""
    session_id: str | None = None
    """The id of Stripe's Checkout Session; `payment_intent` is an id of Stripe's, too."""
    payment_intent: str | None = None
    checkout_url: str | None = None
    """The page where the customer pays."""
    expires_at: datetime | None = None
    """When the session expires."""
    captured_minor: int = 0
    captured_currency: str | None = None
    refunded_minor: int = 0
    announced_minor: int = 0
    """How much of the refunded money has been announced, as `payment.refunded` events."""
    max_failed_refunds: int = MAX_FAILED_REFUNDS
    """How many of its refunds may fail before it is left to an operator."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A fact about a payment that did not come by webhook, as a row of the ledger."""

    provider: str
    event_id: str
    type: str
    order_id: UUID
    payment_id: UUID
    kind: Kind
    amount_minor: int
    currency: str | None
    provider_refund_id: str | None
    refund_status: str | None
    refund_id: str | None
    reason: str | None


@dataclass(slots=True)
class RefundRow:
    """A refund requested from a provider; its id is the idempotency key."""

    id: UUID
    payment_id: UUID
    amount_minor: int
    provider_refund_id: str | None = None
    refused_reason: str | None = None


@dataclass(frozen=True, slots=True)
class DueCall:
    """A due call to a provider.

    `subject_id` is the payment's id for a session and its expiry, else the refund's id.
    """

    kind: CallKind
    subject_id: UUID
    order_id: UUID
    payment_id: UUID
    request_id: str
    wait_seconds: float
    """How long after PostgreSQL's time of the transaction the call is due."""


class NotificationRow(NamedTuple):
    """A notification of a customer about an order, through one channel."""

    order_id: UUID
    kind: str
    channel: str
    recipient: str | None
    reason: str | None
    at_once: bool
    """Whether the commit itself sends it; otherwise it becomes due then."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A user's idempotency key, and the fingerprint of the request it came with."""

    user_id: UUID
    key: str
    fingerprint: bytes
    expires_at: datetime

    @property
    def id(self) -> KeyId:
        """The user and the key: each user has keys of their own."""
        return self.user_id, self.key


class OutboxRow(NamedTuple):
    """An event's row in the outbox."""

    event_id: str
    topic: str
    order_id: UUID
    sequence: int
    request_id: str
    occurred_at: str
    """RFC 3339."""
    payload: bytes
    """JSON."""
