"""The shapes of answers, for OpenAPI. The answers themselves are built elsewhere, as dicts.

The acceptance tests validate every answer against these shapes, and find fields that a shape does
not name. The published schemas allow such fields, since a later version may add some.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, EmailStr, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from app.lifecycle import Status
from web.shapes.bodies import MONEY_SCHEMA

MajorUnits = Annotated[float, WithJsonSchema(MONEY_SCHEMA)]
Pieces = Annotated[int, Field(ge=0)]


class Shape(BaseModel):
    """A JSON object in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class Account(Shape):
    """The account that a token belongs to."""

    id: UUID
    email: str | None
    role: Literal["USER", "ADMIN"]


class RegisteredAccount(Account):
    """A new account."""

    email: EmailStr


class Token(Shape):
    """A bearer token, and the number of seconds for which it is valid."""

    token: str
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(ge=1)]


class Product(Shape):
    """A product, and how many pieces of it can be ordered."""

    id: UUID
    product_name: str
    price: MajorUnits
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    description: str | None
    category: str | None
    available_quantity: Pieces


class Line(Shape):
    """A line of an order, with the price at the time the order was placed."""

    product_id: UUID
    quantity: Annotated[int, Field(ge=1)]
    unit_price: MajorUnits
    line_total: MajorUnits


class Order(Shape):
    """An order; `version` counts its events and is its ETag."""

    id: UUID
    user_id: UUID
    customer_email: str | None
    status: Status
    total_amount: MajorUnits
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    items: Annotated[list[Line], Field(min_length=1, max_length=100)]
    cancel_reason: str | None
    version: Annotated[int, Field(ge=1)]
    created_at: datetime
    updated_at: datetime


class PlacedOrder(Order):
    """An order; `isDuplicate` says whether this is the answer to a replayed request."""

    is_duplicate: bool


class OrderPage(Shape):
    """A page of orders, newest first."""

    data: list[Order]
    has_more: bool
    next_cursor: str | None


class ProductPage(Shape):
    """A page of products."""

    data: list[Product]
    has_more: bool
    next_cursor: str | None


class TimelineEvent(Shape):
    """One event of an order: `type` is its topic, `sequence` the order's version after it."""

    sequence: Annotated[int, Field(ge=1)]
    type: str
    occurred_at: datetime
    request_id: str
    data: dict[str, Any]


class Timeline(Shape):
    """All events of an order, oldest first."""

    data: list[TimelineEvent]


class FieldProblem(Shape):
    """What is wrong with one field, and a JSON pointer (RFC 6901) to it as a URI fragment."""

    detail: str
    pointer: str


class ProblemDetails(Shape):
    """An error (RFC 9457). `type` names a page that explains it; `title` is constant per type."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: str
    request_id: str
    errors: list[FieldProblem] = []


class Waiting(Shape):
    """What an order waits for, and since when."""

    what: str
    since: datetime


class Timer(Shape):
    """What will happen automatically, and when."""

    kind: Literal["expiry", "refund", "closing"]
    at: datetime


class ParkedMessage(Shape):
    """A message of the order that a handler could not process, or that waits behind one."""

    id: UUID
    handler: str
    state: Literal["PARKED", "WAITING"]
    attempts: int
    parked_at: datetime


class TracedMessage(ParkedMessage):
    """A parked message for administrators, with its origin and error."""

    topic: str
    partition: int
    offset: int
    error: str


class Explanation(Shape):
    """Why an order has its status, what it waits for, and which actions are possible."""

    order_id: UUID
    status: Status
    waiting_for: Waiting | None
    next_timer: Timer | None
    parked: list[TracedMessage] | list[ParkedMessage]
    actions: list[Literal["pay", "checkout", "cancel"]]


class CheckoutAsked(Shape):
    """A requested checkout, and the URL to poll for its page."""

    order_id: UUID
    status: Literal["REQUESTED", "READY"]
    poll_url: str


class Checkout(Shape):
    """An order's latest checkout at Stripe.

    READY: it was opened; `checkoutUrl` is there until it is paid. EXPIRED: its order
    does not wait for it any more, or its money is returned.
    """

    order_id: UUID
    status: Literal["NOT_REQUESTED", "REQUESTED", "READY", "FAILED", "EXPIRED"]
    checkout_url: str | None
    failure_reason: str | None


class Taken(Shape):
    """Acknowledgement of a webhook event, which is stored and processed."""

    received: Literal[True]
