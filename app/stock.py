"""The catalogue, and the stock that orders reserve."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from app import order_rows
from app.db import Database, Transaction, sql
from app.errors import ProductNameTaken, ProductNotFound
from app.lifecycle import Status, shortages
from app.money import to_major
from app.times import now, parse_time
from app.topics import InventoryRejected, InventoryReserved, OrderPaid


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
    async with database.transaction() as transaction:
        row = await sql.insert_product(
            transaction.connection,
            id=uuid4(),
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
    """The product's version, and the product as clients see it. Raises ProductNotFound."""
    async with database.connection() as connection:
        row = await sql.get_product(connection, id=product_id)
    if row is None:
        raise ProductNotFound
    return row["version"], as_json(row)


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of the catalogue: the column, how a cursor tells its value, and the query."""

    column: str
    from_cursor: Callable[[str], Any]
    query: Any

    def place(self, row: Mapping[str, Any]) -> list[str]:
        """The row's place in this order, as a cursor tells it."""
        return [str(row[self.column]), str(row["id"])]


SORTS = {
    "productName": Sort("name", str, sql.list_products_by_name),
    "-productName": Sort("name", str, sql.list_products_by_name_down),
    "price": Sort("price_minor", int, sql.list_products_by_price),
    "-price": Sort("price_minor", int, sql.list_products_by_price_down),
    "createdAt": Sort("created_at", parse_time, sql.list_products_by_creation),
    "-createdAt": Sort("created_at", parse_time, sql.list_products_by_creation_down),
}


async def page(
    database: Database, sort: Sort, category: str | None, place: list[str] | None, size: int
) -> list[tuple[dict[str, Any], list[str]]]:
    """Up to `size` products behind `place`, each with its own place.

    Raises ValueError when `place` is not one of this order.
    """
    value, product_id = (sort.from_cursor(place[0]), UUID(place[1])) if place else (None, None)
    async with database.connection() as connection:
        rows = await sort.query(
            connection, category=category, after=value, after_id=product_id, page_size=size
        )
    return [(as_json(row), sort.place(row)) for row in rows]


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """The product as clients see it."""
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
    """Set aside every line of a PAID order, or none: first paid, first served."""
    locked = await order_rows.lock(transaction, events)
    paid = [id for id, order in locked.items() if order.status is Status.PAID]
    wanted = await _undecided(transaction, paid)
    available = await _available(transaction, wanted)
    taken: Counter[UUID] = Counter()
    outcomes: dict[UUID, str] = {}
    for event in events:
        order = locked[UUID(event.orderId)]
        if not (lines := wanted.pop(order.id, None)):
            continue
        if missing := shortages(lines, available):
            outcomes[order.id] = "REJECTED"
            transaction.publish(_rejected(order_rows.stamp(order, event.requestId), missing))
        else:
            outcomes[order.id] = "RESERVED"
            taken.update(lines)
            available.update({id: available[id] - pieces for id, pieces in lines.items()})
            transaction.publish(_reserved(order_rows.stamp(order, event.requestId), lines))
    await _settle(transaction, taken, outcomes)
    await _evict_again(transaction, locked.keys() - outcomes.keys())


def _reserved(stamp: dict[str, Any], lines: Mapping[UUID, int]) -> InventoryReserved:
    items = [{"productId": str(id), "quantity": pieces} for id, pieces in lines.items()]
    return InventoryReserved(**stamp, items=items)


def _rejected(stamp: dict[str, Any], missing: Mapping[UUID, int]) -> InventoryRejected:
    shortages = [{"productId": str(id), "missing": pieces} for id, pieces in missing.items()]
    return InventoryRejected(**stamp, shortages=shortages)


async def _undecided(
    transaction: Transaction, order_ids: list[UUID]
) -> dict[UUID, dict[UUID, int]]:
    """By order that inventory has not decided on: its pieces by product."""
    wanted: dict[UUID, dict[UUID, int]] = defaultdict(dict)
    for row in await sql.undecided_items(transaction.connection, order_ids=order_ids):
        wanted[row["order_id"]][row["product_id"]] = row["quantity"]
    return wanted


async def _available(
    transaction: Transaction, wanted: Mapping[UUID, Mapping[UUID, int]]
) -> dict[UUID, int]:
    products = {product_id for lines in wanted.values() for product_id in lines}
    rows = await sql.lock_products(transaction.connection, ids=list(products))
    return {row["id"]: row["available"] for row in rows}


async def _evict_again(transaction: Transaction, decided: Set[UUID]) -> None:
    """Redelivered orders: the worker that decided on them may have died before it evicted."""
    if decided:
        rows = await sql.product_versions(transaction.connection, order_ids=list(decided))
        transaction.product_versions.update({row["id"]: row["version"] for row in rows})


async def _settle(
    transaction: Transaction, taken: Counter[UUID], outcomes: Mapping[UUID, str]
) -> None:
    if outcomes:
        rows = await sql.decide_reservations(
            transaction.connection,
            order_ids=list(outcomes),
            outcomes=list(outcomes.values()),
            product_ids=list(taken),
            quantities=list(taken.values()),
            now=now(),
        )
        transaction.product_versions.update({row["id"]: row["version"] for row in rows})
