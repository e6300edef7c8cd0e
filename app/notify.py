"""Notifications: one per order, kind and channel.

The agent notes what is to be told, in the transaction that handles the event; the primary key lets
it do so once. The log is told at once; mail is sent by a task of its own (`app/mail.py`), so that a
mail server that is away holds up nothing.
"""

import logging
from collections.abc import Sequence
from functools import partial

from app.queries import sql
from app.topics import OrderCancelled, OrderCompleted
from app.transaction import Transaction

log = logging.getLogger(__name__)

LOG = "log"

Ended = OrderCompleted | OrderCancelled


class Notifier:
    """Tells customers how their orders ended; by mail only where there is a mail server."""

    def __init__(self, sends_mail: bool) -> None:
        self._sends_mail = sends_mail

    async def tell_completed(
        self, transaction: Transaction, events: Sequence[OrderCompleted]
    ) -> None:
        """Tell that the orders were completed."""
        await self._tell(transaction, "completed", events)

    async def tell_cancelled(
        self, transaction: Transaction, events: Sequence[OrderCancelled]
    ) -> None:
        """Tell that the orders were cancelled."""
        await self._tell(transaction, "cancelled", events)

    async def _tell(self, transaction: Transaction, kind: str, events: Sequence[Ended]) -> None:
        by_order = {event.orderId: event for event in events}
        rows = await sql.note_notifications(
            transaction.connection, order_ids=list(by_order), kind=kind, channel=LOG
        )
        for row in rows:
            told = {"request_id": by_order[str(row["order_id"])].requestId}
            line = "Sending notification for %s order %s", kind, row["order_id"]
            transaction.notices.append(partial(log.info, *line, extra=told))
        known = [event for event in by_order.values() if event.customerEmail]
        if self._sends_mail and known:
            await sql.note_mails(
                transaction.connection,
                order_ids=[event.orderId for event in known],
                kind=kind,
                recipients=[event.customerEmail for event in known],
                reasons=[getattr(event, "reason", None) for event in known],
            )
