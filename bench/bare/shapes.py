"""The contents of a lifecycle's rows and messages."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from bench.bare.events import clock, text_of

Message = dict[str, Any]
"""The value of a message, or a row as JSON."""

CURRENCY = "PLN"


def major(minor: int) -> float:
    """Return the amount in major units, as in JSON."""
    return minor / 100 if minor % 100 else minor // 100


def order_answer(
    id: UUID,
    user: UUID,
    email: str,
    total: int,
    lines: Mapping[UUID, int],
    prices: Mapping[UUID, int],
    moment: datetime,
) -> Message:
    """Return a new order as clients see it."""
    return {
        "id": str(id),
        "userId": str(user),
        "customerEmail": email,
        "status": "CREATED",
        "totalAmount": major(total),
        "currency": CURRENCY,
        "items": [
            {
                "productId": str(product),
                "quantity": pieces,
                "unitPrice": major(prices[product]),
                "lineTotal": major(prices[product] * pieces),
            }
            for product, pieces in lines.items()
        ],
        "cancelReason": None,
        "version": 1,
        "createdAt": text_of(moment),
        "updatedAt": text_of(moment),
    }


def told(payment_id: str, amount_minor: int) -> Message:
    """Return the fields of every event of a payment."""
    return {
        "paymentId": payment_id,
        "provider": "internal",
        "amount": major(amount_minor),
        "currency": CURRENCY,
    }


def summary(row: Any) -> Message:
    """Return the fields of every event of an order's state."""
    return {
        "userId": str(row["user_id"]),
        "totalAmount": major(row["total_minor"]),
        "currency": row["currency"],
    }


def items(lines: Mapping[str, int]) -> list[Message]:
    """Return the reserved items."""
    return [{"productId": id, "quantity": pieces} for id, pieces in lines.items()]


def order(
    id: UUID, user: UUID, email: str, total: int, moment: datetime, due_at: datetime
) -> Message:
    """Return a row of `orders`, with its deadline."""
    return {
        "id": id,
        "user_id": user,
        "customer_email": email,
        "total_minor": total,
        "currency": CURRENCY,
        "created_at": moment,
        "due_at": due_at,
    }


def line(order_id: UUID, number: int, product: UUID, pieces: int, price: int) -> Message:
    """Return a row of `order_items`."""
    return {
        "order_id": order_id,
        "line": number,
        "product_id": product,
        "quantity": pieces,
        "unit_price_minor": price,
    }


def changed(row: Any, status: str) -> Message:
    """Return an order of `orders`, as read, with its next event and `status`."""
    return {
        "id": row["id"],
        "read_version": row["version"],
        "status": status,
        "version": row["version"] + 1,
        "cancel_reason": None,
        "updated_at": clock(),
    }


def payment(id: str, order_id: str, amount_minor: int, status: str) -> Message:
    """Return a row of `payments`."""
    captured = status == "SUCCEEDED"
    return {
        "id": id,
        "order_id": order_id,
        "provider": "internal",
        "amount_minor": amount_minor,
        "currency": CURRENCY,
        "status": status,
        "failure_reason": None,
        "requested": True,
        "session_id": None,
        "payment_intent": None,
        "checkout_url": None,
        "expires_at": None,
        "captured_minor": amount_minor if captured else 0,
        "captured_currency": CURRENCY if captured else None,
        "refunded_minor": 0,
        "announced_minor": 0,
        "max_failed_refunds": 5,
    }


def report(payment_id: str, order_id: str, amount_minor: int) -> Message:
    """Return a row of `provider_events` that reports a capture."""
    return {
        "provider": "internal",
        "event_id": f"captured {payment_id}",
        "type": "captured",
        "order_id": order_id,
        "payment_id": payment_id,
        "kind": "captured",
        "amount_minor": amount_minor,
        "currency": CURRENCY,
        "provider_refund_id": None,
        "refund_status": None,
        "refund_id": None,
        "reason": None,
    }


def notification(order_id: str) -> Message:
    """Return a row of `notifications`."""
    told = {"order_id": order_id, "kind": "completed", "channel": "log"}
    return {**told, "recipient": None, "reason": None, "at_once": True}
