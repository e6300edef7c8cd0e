"""The shapes of answers about a worker: what it is, how it does, and what it lags behind."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from web.shapes.answers import Shape


class Front(Shape):
    """The service's name and version, and links to its documents and pages."""

    name: str
    version: str
    links: dict[str, str]


class Health(Shape):
    """Whether PostgreSQL and Kafka can be reached."""

    status: Literal["UP", "DOWN"]
    timestamp: datetime


class Checks(Shape):
    """Whether all checks pass; with `verbose`, also the result of each."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, bool] = Field({})


class Lag(Shape):
    """Consumer lag of one partition: messages between the committed offset and the end."""

    topic: str
    partition: int
    committed: int
    end: int
    lag: Annotated[int, Field(ge=0)]


class Outbox(Shape):
    """How many events wait to be published, and since when the oldest one does."""

    waiting: Annotated[int, Field(ge=0)]
    oldest: datetime | None


class Monitor(Shape):
    """The state of one worker; rates are over the last second."""

    version: str
    timestamp: datetime
    rebalancing: bool
    messages_per_second: float
    events_per_second: float
    rebalances: int | None
    lag: list[Lag]
    outbox: Outbox
