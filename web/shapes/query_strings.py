"""The shapes of query strings."""

import re
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from app.catalogue import SORTS
from app.lifecycle import Status
from app.money.amounts import to_minor
from web.cursors import Cursor, read_cursor
from web.shapes.bodies import MONEY_SCHEMA, RequestShape, Text

DEFAULT_LIMIT, MAX_LIMIT = 20, 100

NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
"""A JSON number (RFC 8259, section 6) of bounded length."""


def _limit(text: object) -> int:
    if not isinstance(text, str) or not re.fullmatch("0*[1-9][0-9]*", text):
        raise ValueError("must be a whole number from 1 to 100")
    digits = text.lstrip("0")
    return MAX_LIMIT if len(digits) > len(str(MAX_LIMIT)) else min(int(digits), MAX_LIMIT)


def _amount(text: object) -> int:
    if not isinstance(text, str) or not NUMBER.fullmatch(text):
        raise ValueError("must be a number")
    return to_minor(Decimal(text))


def _sort(text: object) -> str:
    if text not in SORTS:
        raise ValueError(f"must be one of {', '.join(SORTS)}")
    return str(text)


class Query(RequestShape):
    """The parameters of a query string, each given at most once.

    Unknown ones are refused, because ignoring a misspelt filter would return too much.
    """

    model_config = ConfigDict(extra="forbid")


class PageQuery(Query):
    """The part of a list to return. A limit above 100 is treated as 100."""

    limit: Annotated[
        int,
        BeforeValidator(_limit),
        WithJsonSchema({"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT}),
        Field(description="Entries of a page; more than 100 are taken as 100"),
    ] = DEFAULT_LIMIT
    cursor: Annotated[
        Cursor | None,
        PlainValidator(read_cursor),
        WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}),
        Field(description="`nextCursor` of the page before; bound to the other parameters"),
    ] = None


class OrdersQuery(PageQuery):
    """Filters of the customer's orders."""

    status: Status | None = None


class AllOrdersQuery(OrdersQuery):
    """Filters of all orders."""

    user_id: UUID | None = None


class ProductsQuery(PageQuery):
    """Filters and sort order of products; a leading `-` reverses the order."""

    category: Text | None = None
    sort: Annotated[
        str, BeforeValidator(_sort), WithJsonSchema({"type": "string", "enum": list(SORTS)})
    ] = "productName"


class PayQuery(Query):
    """The amount that the customer pays, in major units."""

    amount: Annotated[int, BeforeValidator(_amount), WithJsonSchema(MONEY_SCHEMA)] | None = None


class ChecksQuery(Query):
    """`verbose`, with or without a value, lists each check."""

    verbose: str | None = None
