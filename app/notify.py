"""Notifications: one per order, kind and channel."""

import logging
from collections.abc import Sequence
from uuid import UUID

from app.db import Transaction, sql
from app.topics import Event, OrderCancelled, OrderCompleted

log = logging.getLogger(__name__)

LOG = "log"


async def notify_completed(transaction: Transaction, events: Sequence[OrderCompleted]) -> None:
    """Tell that the orders were completed."""
    await _notify(transaction, events, "completed")


async def notify_cancelled(transaction: Transaction, events: Sequence[OrderCancelled]) -> None:
    """Tell that the orders were cancelled."""
    await _notify(transaction, events, "cancelled")


async def _notify(transaction: Transaction, events: Sequence[Event], kind: str) -> None:
    ids = list({UUID(event.orderId) for event in events})
    place = {"order_ids": ids, "kind": kind, "channel": LOG}
    unsent = await sql.claim_notifications(transaction.connection, **place)
    for row in unsent:
        log.info("Sending notification for %s order %s", kind, row["order_id"])
    await sql.mark_notified(transaction.connection, **place)
