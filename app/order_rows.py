"""An order's rows: locked for a change, written back, and told to clients."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import orjson

from app.db import Transaction, sql
from app.errors import UnknownOrder
from app.lifecycle import Order, Status
from app.money import to_major
from app.times import now, rfc3339
from app.topics import Event


async def lock(transaction: Transaction, ids: Iterable[UUID]) -> dict[UUID, Order]:
    """Those orders under their row locks, by id. Raises UnknownOrder when one does not exist."""
    wanted = set(ids)
    rows = await sql.lock_orders(transaction.connection, ids=list(wanted))
    if missing := wanted - {row["id"] for row in rows}:
        raise UnknownOrder(f"no such order: {', '.join(map(str, missing))}")
    return {row["id"]: Order(**{**row, "status": Status(row["status"])}) for row in rows}


async def save(transaction: Transaction, orders: Iterable[Order]) -> None:
    """Write back locked orders that the transaction has published events of."""
    changed = [order for order in orders if order.id in transaction.changed_orders]
    if changed:
        await sql.save_orders(
            transaction.connection,
            ids=[order.id for order in changed],
            statuses=[order.status for order in changed],
            versions=[order.version for order in changed],
            reasons=[order.cancel_reason for order in changed],
            times=[order.updated_at for order in changed],
        )


def stamp(order: Order, request_id: str) -> dict[str, Any]:
    """The fields every event carries, for the order's next one: its version moves on."""
    moment = now()
    return {
        "eventId": str(uuid4()),
        "orderId": str(order.id),
        "sequence": order.advance(moment),
        "occurredAt": rfc3339(moment),
        "requestId": request_id,
    }


async def locked_for(transaction: Transaction, events: Sequence[Event]) -> dict[UUID, Order]:
    """The orders that `events` speak of, locked."""
    return await lock(transaction, (UUID(event.orderId) for event in events))


def as_json(row: Mapping[str, Any], lines: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """The order as clients see it; `lines` are (product id, quantity, unit price, minor units)."""
    return {
        "id": str(row["id"]),
        "userId": str(row["user_id"]),
        "customerEmail": row["customer_email"],
        "status": row["status"],
        "totalAmount": to_major(row["total_minor"]),
        "currency": row["currency"],
        "items": [
            {
                "productId": str(product_id),
                "quantity": quantity,
                "unitPrice": to_major(price),
                "lineTotal": to_major(quantity * price),
            }
            for product_id, quantity, price in lines
        ],
        "cancelReason": row["cancel_reason"],
        "version": row["version"],
        "createdAt": rfc3339(row["created_at"]),
        "updatedAt": rfc3339(row["updated_at"]),
    }


def from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The order as clients see it, from a row with its `items` aggregated."""
    return as_json(row, orjson.loads(row["items"]))
