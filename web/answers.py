"""What clients are answered: the shapes behind OpenAPI. Answers are made elsewhere, as dicts.

The acceptance tests hold every answer against these shapes.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, EmailStr, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from app.lifecycle import Status
from app.money.amounts import MAX_MINOR

MajorUnits = Annotated[
    float,
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_MINOR / 100}),
    Field(description="Major units, with at most two decimals"),
]
Pieces = Annotated[int, Field(ge=0)]


class Shape(BaseModel):
    """A JSON object in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class Account(Shape):
    """Who a token speaks for."""

    id: UUID
    email: str | None
    role: Literal["USER", "ADMIN"]


class RegisteredAccount(Account):
    """A new account."""

    email: EmailStr


class Token(Shape):
    """A bearer token, and for how many seconds it is valid."""

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
    """A line of an order, at the price of the moment it was placed."""

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
    """An order, and whether this is the answer to a replayed request."""

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


class Health(Shape):
    """Whether PostgreSQL and Kafka can be reached."""

    status: Literal["UP", "DOWN"]
    timestamp: datetime


class Checks(Shape):
    """Whether all checks hold; each of them where `verbose` is asked."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, bool] = {}


class Front(Shape):
    """What this is, and where to go on."""

    name: str
    version: str
    links: dict[str, str]


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
    """For what an order waits, and since when."""

    what: str
    since: datetime


class Timer(Shape):
    """What happens by itself, and when."""

    kind: Literal["expiry", "refund"]
    at: datetime


class ParkedMessage(Shape):
    """A message of the order that a handler could not take, or that waits behind such a one."""

    id: UUID
    handler: str
    state: Literal["PARKED", "WAITING"]
    attempts: int
    parked_at: datetime


class TracedMessage(ParkedMessage):
    """The same for administrators: with where it came from, and why it was not taken."""

    topic: str
    partition: int
    offset: int
    error: str


class Explanation(Shape):
    """Why an order stands where it stands, and what may be done about it."""

    order_id: UUID
    status: Status
    waiting_for: Waiting | None
    next_timer: Timer | None
    parked: list[TracedMessage] | list[ParkedMessage]
    actions: list[Literal["pay", "checkout", "cancel"]]


class CheckoutAsked(Shape):
    """A checkout that was asked for, and where to ask what became of it."""

    order_id: UUID
    status: Literal["REQUESTED", "READY"]
    poll_url: str


class Checkout(Shape):
    """An order's latest checkout at Stripe. READY: it has a page; EXPIRED: that has closed."""

    order_id: UUID
    status: Literal["NOT_REQUESTED", "REQUESTED", "READY", "FAILED", "EXPIRED"]
    checkout_url: str | None
    failure_reason: str | None


class Taken(Shape):
    """A webhook's event is kept, with all that it led to."""

    received: Literal[True]


class Lag(Shape):
    """Consumer lag of one partition: messages between what is committed and the end."""

    topic: str
    partition: int
    committed: int
    end: int
    lag: Annotated[int, Field(ge=0)]


class Outbox(Shape):
    """How many events wait to be sent, and since when the oldest does."""

    waiting: Annotated[int, Field(ge=0)]
    oldest: datetime | None


class Monitor(Shape):
    """How one worker does; rates are over the last second."""

    version: str
    timestamp: datetime
    rebalancing: bool
    messages_per_second: float
    events_per_second: float
    rebalances: int | None
    lag: list[Lag]
    outbox: Outbox
