"""All events: each a Record with its topic. This map shows what emits and what handles them.

    POST /api/orders    ─> order.created              ─> order_status: remember its answer
    PATCH …/pay         ─> order.payment_requested    ─> payment: capture
    POST …/payments/…   ─> order.checkout_requested   ─> checkout: note a call of Stripe
    Stripe's webhook    ─> payment.succeeded, payment.failed, payment.refunded,
                           payment.refund_requested, order.cancelled: as the reported money requires
    Stripe's answers    ─> the same, as a session that was paid or has expired, or a refund that was
      to noted calls       made or refused, requires
    POST …/cancel       ─> order.cancelled
    the expiry timer    ─> order.cancelled, or a call of Stripe that expires an open session first
    payment             ─> payment.succeeded          ─> order_status: PAID
                           payment.failed             ─> order_status: CANCELLED
    order_status (PAID) ─> order.paid                 ─> inventory: reserve
    inventory           ─> inventory.reserved         ─> order_status: COMPLETED
                           inventory.rejected         ─> order_status: CANCELLED
    order_status (end)  ─> order.completed            ─> notification
                           order.cancelled            ─> notification; payment: request the refund,
                                                         close the checkout; inventory: release
    payment             ─> payment.refund_requested   ─> payment: refund internal payments; for
                                                         Stripe's, a call was noted with it
                           payment.refunded
    an operator         ─> order.intervened; payment.refund_requested

Every arrow to an event is a transaction that emits it: the event is appended to the outbox, from
which the relay publishes to the topic. Fields have their names in JSON. Records change by adding
optional fields.
"""

from functools import cached_property
from typing import Any, ClassVar
from uuid import UUID

import faust

from app.ids import parse_id


class Event(
    faust.Record, abstract=True, include_metadata=False, validation=True, serializer="json"
):
    """The fields of every event; `sequence` is the order's version after it."""

    topic_name: ClassVar[str]

    eventId: str
    orderId: str
    sequence: int
    occurredAt: str
    requestId: str

    @cached_property
    def order_id(self) -> UUID:
        """`orderId` as a UUID."""
        return parse_id(self.orderId)


class OrderCreated(Event):
    """An order was placed. `answer` and `fingerprint` let its Idempotency-Key be replayed."""

    topic_name = "order.created"

    userId: str
    totalAmount: float
    currency: str
    createdAt: str
    items: list[dict[str, Any]]
    customerEmail: str | None = None
    idempotencyKey: str | None = None
    fingerprint: str | None = None
    keyExpiresAt: str | None = None
    answer: dict[str, Any] | None = None


class PaymentRequested(Event):
    """The customer wants to pay `amount` for an order of `expectedAmount`, in major units."""

    topic_name = "order.payment_requested"

    paymentId: str
    provider: str
    amount: float
    expectedAmount: float
    currency: str


class CheckoutRequested(Event):
    """The customer wants to pay at Stripe, by `expiresAt`."""

    topic_name = "order.checkout_requested"

    paymentId: str
    provider: str
    amount: float
    currency: str
    expiresAt: str


class PaymentSucceeded(Event):
    """The money was captured."""

    topic_name = "payment.succeeded"

    paymentId: str
    provider: str
    amount: float
    currency: str


class PaymentFailed(Event):
    """The money was not captured, for `reason`."""

    topic_name = "payment.failed"

    paymentId: str
    provider: str
    amount: float
    currency: str
    reason: str


class RefundRequested(Event):
    """Captured money that the order does not keep must be refunded."""

    topic_name = "payment.refund_requested"

    paymentId: str
    provider: str
    amount: float
    currency: str
    reason: str
    refundId: str | None = None


class PaymentRefunded(Event):
    """Money was refunded."""

    topic_name = "payment.refunded"

    paymentId: str
    provider: str
    amount: float
    currency: str


class OrderPaid(Event):
    """The order is PAID."""

    topic_name = "order.paid"

    paymentId: str
    userId: str
    totalAmount: float
    currency: str


class OrderCompleted(Event):
    """The order is COMPLETED: paid, and its stock reserved."""

    topic_name = "order.completed"

    userId: str
    totalAmount: float
    currency: str
    customerEmail: str | None = None


class OrderCancelled(Event):
    """The order is CANCELLED, for `reason`."""

    topic_name = "order.cancelled"

    userId: str
    totalAmount: float
    currency: str
    reason: str
    customerEmail: str | None = None


class InventoryReserved(Event):
    """Every line of the order was reserved: `items` of {productId, quantity}."""

    topic_name = "inventory.reserved"

    items: list[dict[str, Any]]


class InventoryRejected(Event):
    """No line was reserved: `shortages` of {productId, missing} are the missing pieces."""

    topic_name = "inventory.rejected"

    shortages: list[dict[str, Any]]


class OrderIntervened(Event):
    """An operator (`actor`) replayed or discarded a parked message of the order, for `reason`."""

    topic_name = "order.intervened"

    action: str
    handler: str
    messageId: str
    topic: str
    actor: str
    reason: str


class DeadLetter(faust.Record, include_metadata=False, serializer="json"):
    """A message that `handler` failed to handle: where from, and why; `key`, `value` in base64."""

    topic_name = "dead_letter"

    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None
    headers: dict[str, str]
    handler: str
    error: str
    attempts: int
    occurredAt: str


EVENTS: tuple[type[Event], ...] = (
    OrderCreated,
    PaymentRequested,
    CheckoutRequested,
    PaymentSucceeded,
    PaymentFailed,
    RefundRequested,
    PaymentRefunded,
    OrderPaid,
    OrderCompleted,
    OrderCancelled,
    InventoryReserved,
    InventoryRejected,
    OrderIntervened,
)


def topic_names() -> list[str]:
    """Return the names of all topics except the changelogs."""
    return [*(event.topic_name for event in EVENTS), DeadLetter.topic_name]
