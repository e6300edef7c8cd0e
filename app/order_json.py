"""Orders as clients see them, as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from app.lifecycle import Order
from app.money.amounts import to_major
from app.order_locks import order_of_row
from app.times import rfc3339


def order_json(
    order: Order, created_at: datetime, lines: Iterable[Sequence[Any]]
) -> dict[str, Any]:
    """Return the order as clients see it.

    `lines` are tuples of product id, quantity and unit price (minor units).
    """
    return {
        "id": str(order.id),
        "userId": str(order.user_id),
        "customerEmail": order.customer_email,
        "status": order.status,
        "totalAmount": to_major(order.total_minor),
        "currency": order.currency,
        "items": [
            {
                "productId": str(product_id),
                "quantity": quantity,
                "unitPrice": to_major(price),
                "lineTotal": to_major(quantity * price),
            }
            for product_id, quantity, price in lines
        ],
        "cancelReason": order.cancel_reason,
        "version": order.version,
        "createdAt": rfc3339(created_at),
        "updatedAt": rfc3339(order.updated_at),
    }


def stored_order_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the order of a row, which has its lines as JSON in `items`, as clients see it."""
    return changed_order_json(row, order_of_row(row))


def changed_order_json(row: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """Return a changed order as clients will see it; `row` is its row as it was read."""
    return order_json(order, row["created_at"], orjson.loads(row["items"]))
