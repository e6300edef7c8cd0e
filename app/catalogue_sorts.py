"""The sort orders of the catalogue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.queries import sql
from app.times import parse_time


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
