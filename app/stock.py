"""The product catalogue, and reserving and releasing stock for orders."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, TypedDict
from uuid import UUID

import orjson

from app import order_rows
from app.db import Database
from app.errors import InvalidInput, ProductNameTaken, ProductNotFound, StockBelowReserved
from app.ids import new_id, parse_id
from app.lifecycle import Status, shortages
from app.money.amounts import to_major
from app.queries import sql
from app.sorts import Sort
from app.times import now
from app.topics import InventoryRejected, InventoryReserved, OrderCancelled, OrderPaid
from app.transaction import Transaction

MAX_PIECES = 1_000_000_000_000
"""The most pieces of one product in stock, so that no sum can overflow."""


async def create_product(
    database: Database,
    *,
    name: str,
    price_minor: int,
    currency: str,
    quantity: int,
    description: str | None,
    category: str | None,
) -> dict[str, Any]:
    """Add a product to the catalogue. Raises ProductNameTaken."""
    async with database.transaction("stock.create_product") as transaction:
        row = await sql.insert_product(
            transaction.connection,
            id=new_id(),
            name=name,
            price_minor=price_minor,
            currency=currency,
            description=description,
            category=category,
            quantity=quantity,
            now=now(),
        )
    if row is None:
        raise ProductNameTaken
    return as_json(row)


async def get(database: Database, product_id: UUID) -> tuple[int, dict[str, Any]]:
    """Return the product's version, and the product as clients see it. Raises ProductNotFound."""
    async with database.connection() as connection:
        row = await sql.get_product(connection, id=product_id)
    if row is None:
        raise ProductNotFound
    return row["version"], as_json(row)


class ProductChanges(TypedDict, total=False):
    """Changes to a product: an absent key leaves the field as it is, None clears it."""

    price_minor: int
    description: str | None
    category: str | None
    add_quantity: int


async def update_product(
    database: Database, product_id: UUID, changes: ProductChanges
) -> dict[str, Any]:
    """Change a product, add `add_quantity` pieces (or remove, if negative); return the product.

    Raises ProductNotFound, StockBelowReserved, InvalidInput (more than MAX_PIECES in stock).
    """
    added = changes.get("add_quantity", 0)
    if added > MAX_PIECES:
        raise _too_many()
    if added < -MAX_PIECES:
        raise StockBelowReserved
    async with database.transaction("stock.update_product") as transaction:
        row = await sql.update_product(
            transaction.connection,
            id=product_id,
            price_minor=changes.get("price_minor"),
            sets_description="description" in changes,
            description=changes.get("description"),
            sets_category="category" in changes,
            category=changes.get("category"),
            add_quantity=added,
            most=MAX_PIECES,
            now=now(),
        )
        if row is None:
            await _refuse(transaction, product_id, added)
        transaction.product_versions[product_id] = row["version"]
    return as_json(row)


async def _refuse(transaction: Transaction, product_id: UUID, added: int) -> None:
    if await sql.get_product(transaction.connection, id=product_id) is None:
        raise ProductNotFound
    raise StockBelowReserved if added < 0 else _too_many()


def _too_many() -> InvalidInput:
    return InvalidInput.of("#/addQuantity", f"at most {MAX_PIECES} pieces can be in stock")


async def page(
    database: Database, sort: Sort, category: str | None, place: list[str] | None, size: int
) -> list[tuple[dict[str, Any], list[str]]]:
    """Return up to `size` products after the cursor position `place`, each with its own position.

    Raises ValueError when `place` is not a position in this sort order.
    """
    value, product_id = (sort.from_cursor(place[0]), UUID(place[1])) if place else (None, None)
    behind = {"after": value, "after_id": product_id, "page_size": size}
    async with database.connection() as connection:
        if category is None:
            rows = await sort.all(connection, **behind)
        else:
            rows = await sort.of_category(connection, category=category, **behind)
    return [(as_json(row), sort.place(row)) for row in rows]


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the product as clients see it."""
    return {
        "id": str(row["id"]),
        "productName": row["name"],
        "price": to_major(row["price_minor"]),
        "currency": row["currency"],
        "description": row["description"],
        "category": row["category"],
        "availableQuantity": row["available"],
    }


async def reserve(transaction: Transaction, events: Sequence[OrderPaid]) -> None:
    """Reserve all lines of each PAID order, or none of them: first paid, first served."""
    locked = await order_rows.lock(transaction, events)
    wanted, available = await _undecided(transaction, locked.keys())
    for event in events:
        order, lines = locked[event.order_id], wanted[event.order_id]
        if not lines or order.status is not Status.PAID or order.id in transaction.outcomes:
            continue
        if missing := shortages(lines, available):
            transaction.outcomes[order.id] = "REJECTED"
            transaction.publish(_rejected(order_rows.next_event(order, event.requestId), missing))
        else:
            transaction.outcomes[order.id] = "RESERVED"
            transaction.taken.update(lines)
            available.update({id: available[id] - pieces for id, pieces in lines.items()})
            transaction.publish(_reserved(order_rows.next_event(order, event.requestId), lines))
    await _evict_again(transaction, locked.keys() - transaction.outcomes.keys())


async def release(transaction: Transaction, events: Sequence[OrderCancelled]) -> None:
    """Release the stock reserved for cancelled orders, once.

    An order that is cancelled before `reserve` has decided on it never holds stock, because
    `reserve` decides on PAID orders only. Both check the status under the order's lock.
    """
    locked = await order_rows.lock(transaction, events)
    cancelled = [id for id, order in locked.items() if order.status is Status.CANCELLED]
    held = await sql.lock_reserved_products(transaction.connection, order_ids=cancelled)
    # Also products released earlier: that worker may have died before it evicted them.
    transaction.product_versions.update({row["id"]: row["version"] for row in held})
    if held:
        rows = await sql.release_reservations(
            transaction.connection, order_ids=cancelled, now=now()
        )
        transaction.product_versions.update({row["id"]: row["version"] for row in rows})


def _reserved(shared: dict[str, Any], lines: Mapping[UUID, int]) -> InventoryReserved:
    items = [{"productId": str(id), "quantity": pieces} for id, pieces in lines.items()]
    return InventoryReserved(**shared, items=items)


def _rejected(shared: dict[str, Any], missing: Mapping[UUID, int]) -> InventoryRejected:
    shortages = [{"productId": str(id), "missing": pieces} for id, pieces in missing.items()]
    return InventoryRejected(**shared, shortages=shortages)


async def _undecided(
    transaction: Transaction, order_ids: Set[UUID]
) -> tuple[dict[UUID, dict[UUID, int]], dict[UUID, int]]:
    """Return each order's pieces by product, and the available pieces by product.

    An order that inventory has decided on has no pieces.
    """
    await order_rows.lock_all(transaction, order_ids, stock_of=order_ids)
    wanted: dict[UUID, dict[UUID, int]] = {}
    available: dict[UUID, int] = {}
    for id in order_ids:
        lines = orjson.loads(transaction.undecided[id] or "[]")
        wanted[id] = {parse_id(product_id): pieces for product_id, pieces, _ in lines}
        available.update({parse_id(product_id): left for product_id, _, left in lines})
    return wanted, available


async def _evict_again(transaction: Transaction, decided: Set[UUID]) -> None:
    """Have the products of redelivered orders evicted from the cache again.

    The worker that decided on them may have died before it evicted them.
    """
    if decided:
        rows = await sql.product_versions(transaction.connection, order_ids=list(decided))
        transaction.product_versions.update({row["id"]: row["version"] for row in rows})
