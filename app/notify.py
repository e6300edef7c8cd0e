"""Notifications: one per order, kind and channel.

A notification is claimed by one statement, sent outside of any transaction, noted by another. A
crash in between sends it once more, with the same Message-ID, by which mail systems drop a copy.
"""

import asyncio
import logging
import smtplib
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

from app.db import Database, sql
from app.topics import OrderCancelled, OrderCompleted

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10

Ended = OrderCompleted | OrderCancelled


class Undeliverable(Exception):
    """Raised when a notification can never be sent through a channel."""


class Channel(Protocol):
    """A way to the customer."""

    name: str

    async def send(self, kind: str, event: Ended) -> None:
        """Tell the customer. Raises Undeliverable, or OSError when it may work later."""


class Log:
    """The worker's log: what the seed has."""

    name = "log"

    async def send(self, kind: str, event: Ended) -> None:
        """One line."""
        told = {"request_id": event.requestId}
        log.info("Sending notification for %s order %s", kind, event.orderId, extra=told)


class Mail:
    """SMTP: `smtp://user:password@host:port`, or `smtps://` for TLS from the start."""

    name = "mail"

    def __init__(self, url: str, sender: str) -> None:
        self._url = urlsplit(url)
        self._sender = sender

    async def send(self, kind: str, event: Ended) -> None:
        """A mail to the order's customer, where the order knows one."""
        if event.customerEmail:
            await asyncio.to_thread(self._deliver, self._mail(kind, event))

    def _mail(self, kind: str, event: Ended) -> EmailMessage:
        mail = EmailMessage()
        mail["From"], mail["To"] = self._sender, event.customerEmail
        mail["Subject"] = f"Your order is {kind}"
        mail["Message-ID"] = f"<{event.orderId}.{kind}@orders>"
        reason = f" ({event.reason})" if isinstance(event, OrderCancelled) else ""
        mail.set_content(f"Your order {event.orderId} is {kind}{reason}.\n")
        return mail

    def _deliver(self, mail: EmailMessage) -> None:
        connect = smtplib.SMTP_SSL if self._url.scheme == "smtps" else smtplib.SMTP
        with connect(
            self._url.hostname or "", self._url.port or 0, timeout=PATIENCE_SECONDS
        ) as server:
            if self._url.username:
                server.login(unquote(self._url.username), unquote(self._url.password or ""))
            try:
                server.send_message(mail)
            except smtplib.SMTPRecipientsRefused as refused:
                if all(code >= 500 for code, _ in refused.recipients.values()):
                    raise Undeliverable(str(refused)) from None
                raise


def channels(smtp_url: str | None, sender: str) -> list[Channel]:
    """The configured channels: the log always, mail where SMTP_URL is set."""
    return [Log(), *([Mail(smtp_url, sender)] if smtp_url else [])]


class Notifier:
    """Tells customers how their orders ended."""

    def __init__(self, database: Database, channels: Sequence[Channel]) -> None:
        self._database = database
        self._channels = channels

    async def tell_completed(self, events: Sequence[OrderCompleted]) -> None:
        """Tell that the orders were completed."""
        await self._tell("completed", events)

    async def tell_cancelled(self, events: Sequence[OrderCancelled]) -> None:
        """Tell that the orders were cancelled."""
        await self._tell("cancelled", events)

    async def _tell(self, kind: str, events: Sequence[Ended]) -> None:
        by_order = {UUID(event.orderId): event for event in events}
        for channel in self._channels:
            unsent = await self._claim(kind, channel, list(by_order))
            done: dict[UUID, str | None] = {}
            try:
                for order_id in unsent:
                    done[order_id] = await _send(channel, kind, by_order[order_id])
            finally:
                await self._note(kind, channel, done)

    async def _claim(self, kind: str, channel: Channel, order_ids: list[UUID]) -> list[UUID]:
        async with self._database.connection() as connection:
            rows = await sql.claim_notifications(
                connection, order_ids=order_ids, kind=kind, channel=channel.name
            )
        return [row["order_id"] for row in rows]

    async def _note(self, kind: str, channel: Channel, done: dict[UUID, str | None]) -> None:
        async with self._database.connection() as connection:
            await sql.mark_notified(
                connection,
                order_ids=list(done),
                failures=list(done.values()),
                kind=kind,
                channel=channel.name,
            )


async def _send(channel: Channel, kind: str, event: Ended) -> str | None:
    """Why it can never be sent; None when it was. Raises OSError when it may work later."""
    try:
        await channel.send(kind, event)
        return None
    except Undeliverable as failure:
        log.warning("No %s for order %s: %s", channel.name, event.orderId, failure)
        return str(failure)
