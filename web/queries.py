"""What a query string may say, and how it is read."""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from app.errors import FieldError, InvalidInput
from app.lifecycle import Status
from app.money import to_minor
from app.sorts import SORTS
from web.bodies import MONEY_SCHEMA, BaseShape, Text
from web.reading import field_errors

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


def _limit(text: object) -> int:
    if not isinstance(text, str) or not re.fullmatch("[0-9]{1,100}", text) or int(text) < 1:
        raise ValueError("must be a whole number from 1 to 100")
    return min(int(text), MAX_LIMIT)


def _amount(text: object) -> int:
    if not isinstance(text, str) or not re.fullmatch(r"-?[0-9.]{1,40}", text):
        raise ValueError("must be a number")
    try:
        return to_minor(Decimal(text))
    except InvalidOperation:
        raise ValueError("must be a number") from None


def _sort(text: object) -> str:
    if text not in SORTS:
        raise ValueError(f"must be one of {', '.join(SORTS)}")
    return str(text)


class Query(BaseShape):
    """The parameters of a query string, each given once at most; others are refused.

    An unknown one is not ignored: a misspelt filter would widen what is answered.
    """

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")


class PageQuery(Query):
    """Which part of a list. A limit beyond 100 is taken as 100."""

    limit: Annotated[
        int,
        BeforeValidator(_limit),
        WithJsonSchema({"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT}),
    ] = DEFAULT_LIMIT
    cursor: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}),
        Field(description="`nextCursor` of the page before; bound to the other parameters"),
    ] = None


class OrdersQuery(PageQuery):
    """Which of the customer's orders."""

    status: Status | None = None


class AllOrdersQuery(OrdersQuery):
    """Which of all orders."""

    user_id: UUID | None = None


class ProductsQuery(PageQuery):
    """Which products, and in which order; a leading `-` reverses."""

    category: Text | None = None
    sort: Annotated[
        str, BeforeValidator(_sort), WithJsonSchema({"type": "string", "enum": list(SORTS)})
    ] = "productName"


class PayQuery(Query):
    """What the customer pays, in major units."""

    amount: Annotated[int, BeforeValidator(_amount), WithJsonSchema(MONEY_SCHEMA)] | None = None


class ChecksQuery(Query):
    """`verbose`, with any value or none, tells each check."""

    verbose: str | None = None


Q = TypeVar("Q", bound=Query)


def read_query(request: web.Request, shape: type[Q]) -> Q:
    """The query string as `shape`. Raises InvalidInput naming every bad parameter."""
    given: dict[str, Any] = dict(request.query)
    twice = [name for name in given if len(request.query.getall(name)) > 1]
    if twice:
        told = [FieldError("must be given once", f"#/{name}") for name in twice]
        raise InvalidInput(told)
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(field_errors(error)) from None
