"""What clients send: the bodies, their limits, and how they are read."""

import json
from collections import Counter
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeVar
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
)
from pydantic.alias_generators import to_camel

from app.errors import FieldError, InvalidInput, UnsupportedMediaType
from app.money import to_minor
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


Storable = AfterValidator(_storable)
Money = Annotated[int, BeforeValidator(to_minor)]
"""Minor units, from a JSON number of major units."""


class Body(BaseModel):
    """A JSON object; unknown fields are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Register(Body):
    """A new account."""

    email: Annotated[EmailStr, Storable]
    password: Annotated[str, Field(min_length=8, max_length=128), Storable]


class Login(Body):
    """Credentials; wrong ones are 401, whatever their form."""

    email: Annotated[str, Field(max_length=320), Storable]
    password: Annotated[str, Field(max_length=1024), Storable]


class NewProduct(Body):
    """A product for the catalogue."""

    product_name: Annotated[str, Field(max_length=200), Storable, AfterValidator(_not_blank)]
    price: Money
    quantity: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
    description: Annotated[str, Field(max_length=5000), Storable] | None = None
    category: Annotated[str, Field(max_length=100), Storable] | None = None


class Item(Body):
    """A line of an order."""

    product_id: UUID
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


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


class Pay(Body):
    """What the customer pays; nothing means the exact total."""

    amount: Money | None = None


OWN_WORDS = {
    "missing": "is required",
    "model_type": "must be a JSON object",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
}
"""Where pydantic's message speaks of Python, or of the wrong thing."""

T = TypeVar("T", bound=Body)


async def read(request: web.Request, model: type[T]) -> T:
    """The request's body as `model`. Raises InvalidInput naming every bad field."""
    return validate(model, parse(await raw(request), request.content_type))


async def raw(request: web.Request) -> bytes:
    """The body's bytes. Raises InvalidInput when they do not unpack, HTTP 413 when too many."""
    try:
        return await request.read()
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


def validate(model: type[T], value: Any) -> T:
    """The value as `model`. Raises InvalidInput naming every bad field."""
    if not isinstance(value, dict):
        raise InvalidInput.of("#", "The body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidInput([_field_error(problem) for problem in error.errors()]) from None


def _field_error(problem: Any) -> FieldError:
    path = "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in problem["loc"])
    told = OWN_WORDS.get(problem["type"], problem["msg"]).format(**problem.get("ctx", {}))
    return FieldError(told.removeprefix("Value error, "), f"#/{path}")
