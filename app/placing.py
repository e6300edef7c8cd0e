"""What a new order is made of: its lines at the catalogue's prices, its total, its deadline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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


@dataclass(frozen=True, slots=True)
class Priced:
    """A basket of `user`'s that can be served: its lines at the catalogue's prices."""

    id: UUID
    user: Identity
    lines: list[tuple[UUID, int, int]]
    """Product id, quantity, unit price (minor units)."""
    total_minor: int
    currency: str

    def as_json(self, moment: datetime) -> dict[str, Any]:
        """The order as clients see it, placed at that moment."""
        row = {
            "id": self.id,
            "user_id": self.user.id,
            "customer_email": self.user.email,
            "total_minor": self.total_minor,
            "currency": self.currency,
            "status": Status.CREATED,
            "cancel_reason": None,
            "version": 1,
            "created_at": moment,
            "updated_at": moment,
        }
        return order_rows.as_json(row, self.lines)


async def catalogue(transaction: Transaction, baskets: Iterable[Basket]) -> dict[UUID, Any]:
    """The products that the baskets ask for, as far as there are such."""
    wanted = {id for basket in baskets for id in basket.pieces}
    rows = await sql.products_by_ids(transaction.connection, ids=list(wanted))
    return {row["id"]: row for row in rows}


def price(user: Identity, basket: Basket, products: Mapping[UUID, Any]) -> Priced:
    """The basket at the products' prices.

    Raises ProductNotFound, NotEnoughStock, TotalMismatch, InvalidInput (total too large).
    """
    if basket.pieces.keys() - products.keys():
        raise ProductNotFound
    if shortages(basket.pieces, {id: products[id]["available"] for id in basket.pieces}):
        raise NotEnoughStock
    currencies = {products[id]["currency"] for id in basket.pieces}
    if len(currencies) > 1:
        raise InvalidInput.of("#/items", "the products are priced in different currencies")
    lines = [(id, pieces, products[id]["price_minor"]) for id, pieces in basket.pieces.items()]
    total = _total(lines, basket.expected_total)
    return Priced(uuid4(), user, lines, total, currencies.pop())


async def insert(transaction: Transaction, orders: Sequence[Priced]) -> list[dict[str, Any]]:
    """Insert the orders, with their lines and deadlines; the orders as clients see them."""
    moment = now()
    lines = [
        (order.id, place, *line)
        for order in orders
        for place, line in enumerate(order.lines, start=1)
    ]
    columns = ("order_ids", "lines", "product_ids", "quantities", "prices")
    await sql.insert_orders(
        transaction.connection,
        ids=[order.id for order in orders],
        user_ids=[order.user.id for order in orders],
        customer_emails=[order.user.email for order in orders],
        totals=[order.total_minor for order in orders],
        currencies=[order.currency for order in orders],
        now=moment,
        due_at=moment + timedelta(seconds=settings.order_ttl_seconds),
        **dict(zip(columns, map(list, zip(*lines, strict=True)), strict=True)),
    )
    return [order.as_json(moment) for order in orders]


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
