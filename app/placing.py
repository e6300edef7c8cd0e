"""What a new order is made of: its lines at the catalogue's prices, its total, its deadline."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from app import idempotency, order_rows, settings
from app.db import Transaction, sql
from app.errors import InvalidInput, NotEnoughStock, ProductNotFound, TotalMismatch
from app.lifecycle import Status, shortages
from app.money import MAX_MINOR
from app.times import now, rfc3339
from app.tokens import Identity
from app.topics import OrderCreated


@dataclass(frozen=True, slots=True)
class Basket:
    """What a customer wants: pieces by product, and the total (minor units) they expect, if any."""

    pieces: Mapping[UUID, int]
    expected_total: int | None


async def insert(transaction: Transaction, user: Identity, basket: Basket) -> dict[str, Any]:
    """Insert the order, with its lines and its deadline; the order as clients see it.

    Raises ProductNotFound, NotEnoughStock, TotalMismatch, InvalidInput (total too large).
    """
    products = await _products(transaction, basket)
    lines = [(id, pieces, products[id]["price_minor"]) for id, pieces in basket.pieces.items()]
    row = {
        "id": uuid4(),
        "user_id": user.id,
        "customer_email": user.email,
        "total_minor": _total(lines, basket.expected_total),
        "currency": next(iter(products.values()))["currency"],
        "now": now(),
    }
    await sql.insert_order(
        transaction.connection,
        **row,
        product_ids=[line[0] for line in lines],
        quantities=[line[1] for line in lines],
        prices=[line[2] for line in lines],
        due_at=row["now"] + timedelta(seconds=settings.order_ttl_seconds),
    )
    fresh = {"status": Status.CREATED, "cancel_reason": None, "version": 1}
    times = {"created_at": row["now"], "updated_at": row["now"]}
    return order_rows.as_json({**row, **fresh, **times}, lines)


async def _products(transaction: Transaction, basket: Basket) -> dict[UUID, Any]:
    """What the basket asks for, all of it there, in one currency."""
    rows = await sql.products_by_ids(transaction.connection, ids=list(basket.pieces))
    products = {row["id"]: row for row in rows}
    if basket.pieces.keys() - products.keys():
        raise ProductNotFound
    if shortages(basket.pieces, {id: row["available"] for id, row in products.items()}):
        raise NotEnoughStock
    if len({row["currency"] for row in rows}) > 1:
        raise InvalidInput.of("#/items", "the products are priced in different currencies")
    return products


def _total(lines: Iterable[tuple[UUID, int, int]], expected: int | None) -> int:
    total = sum(pieces * price for _, pieces, price in lines)
    if total > MAX_MINOR:
        raise InvalidInput.of("#/items", "the order's total is more than 9999999999999.99")
    if expected is not None and expected != total:
        raise TotalMismatch
    return total


def created(order: dict[str, Any], key: idempotency.Key | None, request_id: str) -> OrderCreated:
    """The event of an inserted order, with what its key's replays get."""
    return OrderCreated(
        eventId=str(uuid4()),
        orderId=order["id"],
        sequence=1,
        occurredAt=order["createdAt"],
        requestId=request_id,
        userId=order["userId"],
        totalAmount=order["totalAmount"],
        currency=order["currency"],
        createdAt=order["createdAt"],
        items=order["items"],
        customerEmail=order["customerEmail"],
        idempotencyKey=key.key if key else None,
        fingerprint=key.fingerprint.hex() if key else None,
        keyExpiresAt=rfc3339(key.expires_at) if key else None,
        answer=order if key else None,
    )
