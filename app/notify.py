"""Notifications of customers: one per order, kind and channel.

The agent stores them in the transaction that handles the event; the primary key prevents
duplicates. The log line is written at once; mail is sent by a task of its own (`app/mail.py`), so
that an unavailable mail server delays nothing else.
"""

import logging
from collections.abc import Sequence
from functools import partial

from app.db.rows import NotificationRow
from app.db.transaction import Transaction
from app.lifecycle import (
    CANCELLED_BY_ADMIN,
    CANCELLED_BY_OWNER,
    EXPIRED,
    INCORRECT_AMOUNT,
    OUT_OF_STOCK,
)
from app.money.ledger import PAYMENT_FAILED
from app.money.steps import INCORRECT_CURRENCY, REFUNDED
from app.topics import OrderCancelled, OrderCompleted

log = logging.getLogger(__name__)

LOG, MAIL = "log", "mail"

REASONS = {
    CANCELLED_BY_ADMIN,
    CANCELLED_BY_OWNER,
    EXPIRED,
    INCORRECT_AMOUNT,
    INCORRECT_CURRENCY,
    OUT_OF_STOCK,
    PAYMENT_FAILED,
    REFUNDED,
}
"""The reasons that a mail may give: those of the service. A customer could write anything, and the
mail goes to an address that nobody has confirmed."""

Ended = OrderCompleted | OrderCancelled


class Notifier:
    """Notifies customers how their orders ended; by mail only if a mail server is configured."""

    def __init__(self, sends_mail: bool) -> None:
        self._sends_mail = sends_mail

    async def tell_completed(
        self, transaction: Transaction, events: Sequence[OrderCompleted]
    ) -> None:
        """Notify customers that their orders were completed."""
        self._tell(transaction, "completed", events)

    async def tell_cancelled(
        self, transaction: Transaction, events: Sequence[OrderCancelled]
    ) -> None:
        """Notify customers that their orders were cancelled."""
        self._tell(transaction, "cancelled", events)

    def _tell(self, transaction: Transaction, kind: str, events: Sequence[Ended]) -> None:
        for event in events:
            line = "Sending notification for %s order %s", kind, event.orderId
            notice = partial(log.info, *line, extra={"request_id": event.requestId})
            logged = NotificationRow(event.order_id, kind, LOG, None, None, at_once=True)
            transaction.notifications[logged] = notice
            if self._sends_mail and (address := event.customerEmail):
                reason = getattr(event, "reason", None)
                reason = reason if reason in REASONS else None
                mail = NotificationRow(event.order_id, kind, MAIL, address, reason, at_once=False)
                transaction.notifications[mail] = None
