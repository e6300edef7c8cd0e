"""The shapes of requests and answers about parked messages."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.parked import State
from web.shapes.answers import Shape
from web.shapes.bodies import Body, Reason, Text
from web.shapes.query_strings import PageQuery


class ParkedQuery(PageQuery):
    """Filters of parked messages; without a `state`, unresolved ones are listed."""

    handler: Text | None = None
    order_id: UUID | None = None
    state: State | None = None


class Replay(Body):
    """Why the message is replayed. Unless `dryRun` is false, nothing is changed."""

    reason: Reason
    dry_run: Annotated[bool, Field(strict=True)] = True


class Discard(Body):
    """Why the message is discarded."""

    reason: Reason


class ListedMessage(Shape):
    """A message that a handler could not process, or that waits behind one of its order."""

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
    """The message with its key, value and headers as text; invalid UTF-8 is replaced."""

    key: str | None
    value: str | None
    headers: dict[str, str]


class ParkedPage(Shape):
    """A page of parked messages, latest first."""

    data: list[ListedMessage]
    has_more: bool
    next_cursor: str | None


class Outcome(Shape):
    """The outcome of one message; `events` are the topics of the events that it published."""

    id: UUID
    topic: str
    partition: int
    offset: int
    state: State
    error: str | None
    events: list[str]


class Outcomes(Shape):
    """The outcome of each message, in order; after a dry run, what it would have been."""

    dry_run: bool
    messages: list[Outcome]
