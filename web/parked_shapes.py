"""What administrators ask about parked messages, and are answered."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.parked import State
from web.answers import Shape
from web.bodies import NOT_BLANK, Body, NotBlank, Storable, Text
from web.query_strings import PageQuery

Reason = Annotated[str, Field(max_length=500, json_schema_extra=NOT_BLANK), Storable, NotBlank]


class ParkedQuery(PageQuery):
    """Which parked messages; without a `state`, those that nobody has resolved."""

    handler: Text | None = None
    order_id: UUID | None = None
    state: State | None = None


class Replay(Body):
    """Why the message is replayed. Unless `dryRun` is false, it is only tried out."""

    reason: Reason
    dry_run: Annotated[bool, Field(strict=True)] = True


class Discard(Body):
    """Why the message is given up."""

    reason: Reason


class ListedMessage(Shape):
    """A message that a handler could not take, or one that waits behind such a one of its order."""

    id: UUID
    handler: str
    topic: str
    partition: int
    offset: int
    order_id: UUID | None
    state: State
    holds_order: bool
    error: str
    attempts: Annotated[int, Field(ge=0)]
    parked_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    reason: str | None


class WholeMessage(ListedMessage):
    """The message with its bytes as text; what is no UTF-8 is replaced."""

    key: str | None
    value: str | None
    headers: dict[str, str]


class ParkedPage(Shape):
    """A page of parked messages, the latest first."""

    data: list[ListedMessage]
    has_more: bool
    next_cursor: str | None


class Outcome(Shape):
    """What came of one message; `events` are the topics of what its handler published."""

    id: UUID
    topic: str
    partition: int
    offset: int
    state: State
    error: str | None
    events: list[str]


class Outcomes(Shape):
    """What came of each message, in order; after a dry run, what would have."""

    dry_run: bool
    messages: list[Outcome]
