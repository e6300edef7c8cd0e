"""The shapes of request bodies, and their limits."""

from collections import Counter
from decimal import Decimal
from typing import Annotated, Any, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from app import catalogue
from app.errors import InvalidInput
from app.identity.accounts import canonical_email
from app.money.amounts import MAX_MINOR, to_minor
from app.placing import Basket
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
    """Convert a Decimal such as 5.0 to an int: it is an integer too (JSON Schema, 6.1.1)."""
    # `adjusted` first: converting 1e999999999 to an int would exhaust the memory.
    if isinstance(number, Decimal) and number.adjusted() < MAX_DIGITS:
        whole = int(number)
        return whole if whole == number else number
    return number


NO_NUL: JsonDict = {"pattern": r"^[^\x00]*$"}
NOT_BLANK: JsonDict = {"pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"}
Storable = AfterValidator(_storable)
NotBlank = AfterValidator(_not_blank)
Text = Annotated[str, Field(json_schema_extra=NO_NUL), Storable]
"""Text that PostgreSQL can store and UTF-8 can encode."""
Reason = Annotated[str, Field(max_length=500, json_schema_extra=NOT_BLANK), Storable, NotBlank]
"""Why somebody does something."""
MONEY_SCHEMA: JsonDict = {
    "type": "number",
    "minimum": 0,
    "maximum": MAX_MINOR / 100,
    "description": "Major units, with at most two decimals",
}
Money = Annotated[int, BeforeValidator(to_minor), WithJsonSchema(MONEY_SCHEMA)]
"""Minor units, from a JSON number of major units."""
MAX_DIGITS = 20
Whole = BeforeValidator(_whole)
MAX_ADDED_PIECES = 1_000_000_000
"""The most pieces that one request may add to a product, or take away."""
MAX_EMAIL = 320
"""The most characters of an email that is normalised: the time it takes grows with their square if
they are combining marks, to seconds for a whole body of them."""


class RequestShape(BaseModel):
    """The base of request shapes, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Body(RequestShape):
    """A JSON object; unknown fields are ignored."""


class StrictBody(Body):
    """A JSON object whose fields are all optional, so unknown (misspelt) ones are refused."""

    model_config = ConfigDict(extra="forbid")


class Register(Body):
    """A new account."""

    email: Annotated[
        str,
        Field(max_length=MAX_EMAIL, json_schema_extra={"format": "email"}),
        Storable,
        AfterValidator(canonical_email),
    ]
    password: Annotated[
        str, Field(min_length=8, max_length=128, json_schema_extra=NO_NUL), Storable
    ]


class Login(Body):
    """Credentials; wrong ones are answered with 401, even if they are malformed."""

    email: Annotated[str, Field(max_length=MAX_EMAIL, json_schema_extra=NO_NUL), Storable]
    password: Annotated[str, Field(max_length=1024, json_schema_extra=NO_NUL), Storable]


Description = Annotated[str, Field(max_length=5000, json_schema_extra=NO_NUL), Storable]
Category = Annotated[str, Field(max_length=100, json_schema_extra=NO_NUL), Storable]


class NewProduct(Body):
    """A product for the catalogue."""

    product_name: Annotated[
        str, Field(max_length=200, json_schema_extra=NOT_BLANK), Storable, NotBlank
    ]
    price: Money
    quantity: Annotated[int, Field(strict=True, ge=0, le=MAX_ADDED_PIECES), Whole]
    description: Description | None = None
    category: Category | None = None


def _all_left_out(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)
    schema["minProperties"] = 1


class ProductChanges(StrictBody):
    """Changes to a product; omitted fields keep their values. `addQuantity` restocks."""

    model_config = ConfigDict(json_schema_extra=_all_left_out)

    price: Money = 0
    description: Description | None = None
    category: Category | None = None
    add_quantity: Annotated[
        int, Field(strict=True, ge=-MAX_ADDED_PIECES, le=MAX_ADDED_PIECES), Whole
    ] = 0

    def changes(self) -> catalogue.ProductChanges:
        """Return only the fields that the client sent. Raises InvalidInput if there are none."""
        named = self.model_dump(exclude_unset=True)
        if not named:
            raise InvalidInput.of("#", "There is nothing to change")
        if "price" in named:
            named["price_minor"] = named.pop("price")
        return cast(catalogue.ProductChanges, named)


class Item(Body):
    """A line of an order."""

    product_id: UUID
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000), Whole]


class NewOrder(Body):
    """An order to place, optionally with the total that the customer expects."""

    items: Annotated[list[Item], Field(min_length=1, max_length=100)]
    total_amount: Money | None = None

    def basket(self) -> Basket:
        """Return the basket, with lines of the same product merged."""
        pieces: Counter[UUID] = Counter()
        asked: list[UUID] = []
        for item in self.items:
            pieces[item.product_id] += item.quantity
            asked.append(item.product_id)
        return Basket(dict(pieces), self.total_amount, asked)


class Pay(StrictBody):
    """The amount that the customer pays; without one, the exact total."""

    amount: Money | None = None


class Cancel(StrictBody):
    """Why the order is cancelled."""

    reason: Reason | None = None
