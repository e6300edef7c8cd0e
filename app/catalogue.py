"""The product catalogue: adding, changing, restocking and listing products."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import UUID

from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.errors import (
    ForeignCurrency,
    InvalidInput,
    ProductNameTaken,
    ProductNotFound,
    StockBelowReserved,
)
from app.ids import new_id
from app.money.amounts import to_major
from app.times import now, parse_time

MAX_IN_STOCK = 1_000_000_000_000
"""The most pieces of one product in stock, so that no sum can overflow."""


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort order: its column, the conversion of a cursor's value, and the queries."""

    column: str
    from_cursor: Callable[[str], Any]
    all: Any
    of_category: Any

    def position(self, row: Mapping[str, Any]) -> list[str]:
        """Return the row's position in this sort order, for a cursor."""
        return [str(row[self.column]), str(row["id"])]


SORTS = {
    "productName": Sort("name", str, sql.list_products_by_name, sql.list_category_by_name),
    "-productName": Sort(
        "name", str, sql.list_products_by_name_down, sql.list_category_by_name_down
    ),
    "price": Sort("price_minor", int, sql.list_products_by_price, sql.list_category_by_price),
    "-price": Sort(
        "price_minor", int, sql.list_products_by_price_down, sql.list_category_by_price_down
    ),
    "createdAt": Sort(
        "created_at", parse_time, sql.list_products_by_creation, sql.list_category_by_creation
    ),
    "-createdAt": Sort(
        "created_at",
        parse_time,
        sql.list_products_by_creation_down,
        sql.list_category_by_creation_down,
    ),
}


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
    """Add a product to the catalogue. Raises ProductNameTaken, ForeignCurrency."""
    async with database.transaction("catalogue.create_product") as transaction:
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
            known = await sql.catalogue_currency(transaction.connection)
            raise ProductNameTaken if known == currency else ForeignCurrency
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

    Raises ProductNotFound, StockBelowReserved, InvalidInput (more than MAX_IN_STOCK in stock).
    """
    added = changes.get("add_quantity", 0)
    if added > MAX_IN_STOCK:
        raise _too_many()
    if added < -MAX_IN_STOCK:
        raise StockBelowReserved
    async with database.transaction("catalogue.update_product") as transaction:
        row = await sql.update_product(
            transaction.connection,
            id=product_id,
            price_minor=changes.get("price_minor"),
            sets_description="description" in changes,
            description=changes.get("description"),
            sets_category="category" in changes,
            category=changes.get("category"),
            add_quantity=added,
            most=MAX_IN_STOCK,
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
    return InvalidInput.of("#/addQuantity", f"at most {MAX_IN_STOCK} pieces can be in stock")


async def page(
    database: Database, sort: Sort, category: str | None, position: list[str] | None, size: int
) -> list[tuple[dict[str, Any], list[str]]]:
    """Return up to `size` products after the cursor `position`, each with its own position.

    Raises ValueError when `position` is not a position in this sort order.
    """
    value, product_id = (
        (sort.from_cursor(position[0]), UUID(position[1])) if position else (None, None)
    )
    after = {"after": value, "after_id": product_id, "page_size": size}
    async with database.connection() as connection:
        if category is None:
            rows = await sort.all(connection, **after)
        else:
            rows = await sort.of_category(connection, category=category, **after)
    return [(as_json(row), sort.position(row)) for row in rows]


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
