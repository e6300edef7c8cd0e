"""What clients send: the bodies, their limits, and how they are read."""

import asyncio
import json
from collections import Counter
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeVar, cast
from uuid import UUID

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from app import stock
from app.errors import (
    BodyTooSlow,
    FieldError,
    InvalidInput,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from app.money import MAX_MINOR, to_minor
from app.orders import Basket
from app.text import flaw


def _storable(text: str) -> str:
    if reason := flaw(text):
        raise ValueError(reason)
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text.strip()


def _whole(number: object) -> object:
    """JSON has one kind of number: 5.0 is an integer as much as 5 is (JSON Schema, 6.1.1)."""
    # `adjusted` first: the integer of 1e999999999 would fill the memory.
    if isinstance(number, Decimal) and number.adjusted() < MOST_DIGITS:
        whole = int(number)
        return whole if whole == number else number
    return number


NO_NUL: JsonDict = {"pattern": r"^[^\x00]*$"}
NOT_BLANK: JsonDict = {"pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"}
Storable = AfterValidator(_storable)
NotBlank = AfterValidator(_not_blank)
Text = Annotated[str, Field(json_schema_extra=NO_NUL), Storable]
"""Text that PostgreSQL and UTF-8 can hold."""
MONEY_SCHEMA: JsonDict = {
    "type": "number",
    "minimum": 0,
    "maximum": MAX_MINOR / 100,
    "multipleOf": 0.01,
    "description": "Major units, with at most two decimals",
}
Money = Annotated[int, BeforeValidator(to_minor), WithJsonSchema(MONEY_SCHEMA)]
"""Minor units, from a JSON number of major units."""
MOST_DIGITS = 20
Whole = BeforeValidator(_whole)
MOST_PIECES = 1_000_000_000


class BaseShape(BaseModel):
    """What a client sends, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Body(BaseShape):
    """A JSON object; unknown fields are ignored."""


class StrictBody(Body):
    """A JSON object whose fields may all be left out: a misspelt one is refused, not ignored."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")


class Register(Body):
    """A new account."""

    email: Annotated[EmailStr, Storable]
    password: Annotated[
        str, Field(min_length=8, max_length=128, json_schema_extra=NO_NUL), Storable
    ]


class Login(Body):
    """Credentials; wrong ones are 401, whatever their form."""

    email: Annotated[str, Field(max_length=320, json_schema_extra=NO_NUL), Storable]
    password: Annotated[str, Field(max_length=1024, json_schema_extra=NO_NUL), Storable]


class NewProduct(Body):
    """A product for the catalogue."""

    product_name: Annotated[
        str, Field(max_length=200, json_schema_extra=NOT_BLANK), Storable, NotBlank
    ]
    price: Money
    quantity: Annotated[int, Field(strict=True, ge=0, le=MOST_PIECES), Whole]
    description: (
        Annotated[str, Field(max_length=5000, json_schema_extra=NO_NUL), Storable] | None
    ) = None
    category: Annotated[str, Field(max_length=100, json_schema_extra=NO_NUL), Storable] | None = (
        None
    )


def _all_left_out(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)
    schema["minProperties"] = 1


class ProductChanges(StrictBody):
    """What is to change of a product; what is left out stays. `addQuantity` restocks."""

    model_config = ConfigDict(json_schema_extra=_all_left_out)

    price: Money = 0
    description: (
        Annotated[str, Field(max_length=5000, json_schema_extra=NO_NUL), Storable] | None
    ) = None
    category: Annotated[str, Field(max_length=100, json_schema_extra=NO_NUL), Storable] | None = (
        None
    )
    add_quantity: Annotated[int, Field(strict=True, ge=-MOST_PIECES, le=MOST_PIECES), Whole] = 0

    def changes(self) -> stock.ProductChanges:
        """Only what the client named. Raises InvalidInput when that is nothing."""
        named = self.model_dump(exclude_unset=True)
        if not named:
            raise InvalidInput.of("#", "Nothing is to change")
        if "price" in named:
            named["price_minor"] = named.pop("price")
        return cast(stock.ProductChanges, named)


class Item(Body):
    """A line of an order."""

    product_id: UUID
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000), Whole]


class NewOrder(Body):
    """An order, with the total its customer expects, if any."""

    items: Annotated[list[Item], Field(min_length=1, max_length=100)]
    total_amount: Money | None = None

    def basket(self) -> Basket:
        """The same product twice is merged."""
        pieces: Counter[UUID] = Counter()
        for item in self.items:
            pieces[item.product_id] += item.quantity
        return Basket(dict(pieces), self.total_amount)


class Pay(StrictBody):
    """What the customer pays; nothing means the exact total."""

    amount: Money | None = None


class Cancel(StrictBody):
    """Why the order is cancelled."""

    reason: (
        Annotated[str, Field(max_length=500, json_schema_extra=NOT_BLANK), Storable, NotBlank]
        | None
    ) = None


OWN_WORDS = {
    "missing": "is required",
    "model_type": "must be a JSON object",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "extra_forbidden": "is not known here",
    "enum": "must be one of {expected}",
}
"""Where pydantic's message speaks of Python, or of the wrong thing."""

BODY_SECONDS = 10.0
"""For 64 KiB at most; past that, whoever sends it only holds a connection."""

T = TypeVar("T", bound=Body)


async def read(request: web.Request, shape: type[T]) -> T:
    """The request's body as `shape`. Raises InvalidInput naming every bad field."""
    return validate(shape, parse(await raw(request), request.content_type))


async def read_if_any(request: web.Request, shape: type[T]) -> T:
    """The same, of a body that may be left out. Raises InvalidInput naming every bad field."""
    body = await raw(request)
    return validate(shape, parse(body, request.content_type) if body else {})


async def raw(request: web.Request) -> bytes:
    """The body's bytes. Raises InvalidInput when they do not unpack, BodyTooSlow.

    When they are too many, PayloadTooLarge before they are read, or HTTP 413 while they are.
    """
    if (request.content_length or 0) > request.client_max_size:
        raise PayloadTooLarge
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise BodyTooSlow from None
    except (HttpProcessingError, web.RequestPayloadError):
        raise InvalidInput.of("#", "The body does not unpack as its Content-Encoding") from None


def parse(body: bytes, content_type: str) -> Any:
    """The JSON value, its numbers exact. Raises InvalidInput, UnsupportedMediaType."""
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise UnsupportedMediaType
    try:
        return json.loads(body.decode(), parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, ArithmeticError, RecursionError):
        raise InvalidInput.of("#", "The body is not valid JSON") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def validate(shape: type[T], value: Any) -> T:
    """The value as `shape`. Raises InvalidInput naming every bad field."""
    if not isinstance(value, dict):
        raise InvalidInput.of("#", "The body must be a JSON object")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(field_errors(error)) from None


def field_errors(error: ValidationError) -> list[FieldError]:
    """What pydantic found, in words for the client, field by field."""
    return [_field_error(problem) for problem in error.errors()]


def _field_error(problem: Any) -> FieldError:
    path = "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in problem["loc"])
    own = OWN_WORDS.get(problem["type"])
    # Pydantic's message may quote the client: it is no template.
    told = own.format(**problem.get("ctx", {})) if own else problem["msg"]
    return FieldError(told.removeprefix("Value error, "), f"#/{path}")
