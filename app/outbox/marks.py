"""What the relay writes to PostgreSQL: marks of sent events, and refused events as parked."""

import logging
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from app.crashes import Point, crash_here
from app.db.queries import sql
from app.db.rows import OutboxRow
from app.metrics import REFUSED
from app.outbox.in_flight import InFlight
from app.outbox.rows import RELAY, as_row
from app.text import storable_error
from app.times import now
from app.topics import topic_names

log = logging.getLogger(__name__)

for _topic in topic_names():
    REFUSED.labels(_topic)  # shown as 0 from the start, so that an alert sees the first rise


async def mark_and_take(
    connection: asyncpg.Connection, in_flight: InFlight, excluded: Sequence[UUID], batch: int
) -> list[OutboxRow]:
    """Mark the acknowledged events as published; return at most `batch` events to be sent.

    Those of orders in `excluded` are left out.
    """
    sent = list(in_flight.acknowledged.values())
    if sent:
        crash_here(Point.SENT, RELAY)
    rows = await sql.mark_and_take(
        connection,
        sent_orders=[row.order_id for row in sent],
        sent_sequences=[row.sequence for row in sent],
        sent_times=[row.occurred_at for row in sent],
        excluded=excluded,
        batch=batch,
    )
    in_flight.marked(sent)
    return [as_row(row) for row in rows]


async def park(connection: asyncpg.Connection, row: OutboxRow, error: BaseException) -> None:
    """Park an event that the broker refuses for good, for an operator to decide."""
    extra = {"request_id": row.request_id}
    log.error("The broker refuses %s of order %s: %r", row.topic, row.order_id, error, extra=extra)
    REFUSED.labels(row.topic).inc()
    crash_here(Point.REFUSED, RELAY)
    await sql.park_refused(
        connection,
        order_id=row.order_id,
        sequence=row.sequence,
        occurred_at=row.occurred_at,
        error=storable_error(f"{type(error).__name__}: {error}"),
        now=now(),
    )
    crash_here(Point.PARKED, RELAY)
