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


def _sort(column: str, from_cursor: Callable[[str], Any], by: str) -> Sort:
    queries = getattr(sql, f"list_products_by_{by}"), getattr(sql, f"list_category_by_{by}")
    return Sort(column, from_cursor, *queries)


SORTS = {
    "productName": _sort("name", str, "name"),
    "-productName": _sort("name", str, "name_down"),
    "price": _sort("price_minor", int, "price"),
    "-price": _sort("price_minor", int, "price_down"),
    "createdAt": _sort("created_at", parse_time, "creation"),
    "-createdAt": _sort("created_at", parse_time, "creation_down"),
}
