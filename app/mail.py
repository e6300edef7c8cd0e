"""Mail to customers over SMTP, from the notifications that the agent has stored.

A mail is leased (`due_at` is postponed), sent, and noted as sent. After a crash in between it is
sent again with the same Message-ID, by which mail systems can drop the duplicate.
"""

import asyncio
import logging
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

from app.crashes import Point, crash_here
from app.db import AWAY, Database
from app.queries import sql

log = logging.getLogger(__name__)

BATCH = 10
ATTEMPTS = 10
TIMEOUT_SECONDS = 10
IDLE_SECONDS = 1.0
MAIL = "mail"
"""The name of this task in crash points."""


_threads = ThreadPoolExecutor(BATCH, "mail")
"""Their own: a mail server that hangs must not hold up the hashing of passwords."""


class Undeliverable(Exception):
    """Raised when a mail can never be delivered."""


class Mail:
    """A mail server: `smtp://user:password@host:port`, or `smtps://` for TLS from the start."""

    def __init__(self, url: str, sender: str) -> None:
        self._url = urlsplit(url)
        self._sender = sender

    async def send(self, notification: Any) -> None:
        """Deliver one mail. Raises Undeliverable, or OSError when a retry may succeed."""
        mail = self._compose(notification)
        await asyncio.get_running_loop().run_in_executor(_threads, self._deliver, mail)

    def _compose(self, notification: Any) -> EmailMessage:
        order_id, kind = notification["order_id"], notification["kind"]
        reason = f" ({notification['reason']})" if notification["reason"] else ""
        mail = EmailMessage()
        mail["From"] = self._sender
        mail["Subject"] = f"Your order is {kind}"
        mail["Message-ID"] = f"<{order_id}.{kind}@orders>"
        mail.set_content(f"Your order {order_id} is {kind}{reason}.\n")
        try:
            mail["To"] = notification["recipient"]
        except Exception as error:
            # The address is any text from a token, and the parser raises many types of exceptions.
            raise Undeliverable(f"not an address: {error!r}") from None
        return mail

    def _deliver(self, mail: EmailMessage) -> None:
        """Send the mail. Raises Undeliverable if it is refused, OSError if a retry may succeed."""
        with self._connect() as server:
            try:
                server.send_message(mail)
            except smtplib.SMTPRecipientsRefused as refused:
                if all(code >= 500 for code, _ in refused.recipients.values()):
                    raise Undeliverable(str(refused)) from None
                raise
            except smtplib.SMTPDataError as error:
                if error.smtp_code >= 500:
                    raise Undeliverable(str(error)) from None
                raise
            except smtplib.SMTPNotSupportedError as error:
                raise Undeliverable(str(error)) from None
            except OSError:
                raise
            except Exception as error:
                # The library formats the addresses only here, and raises many types of exceptions.
                raise Undeliverable(f"not to be written: {error!r}") from None

    def _connect(self) -> smtplib.SMTP:
        host, port = self._url.hostname or "", self._url.port or 0
        if self._url.scheme == "smtps":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)
        if self._url.username:
            if self._url.scheme == "smtp":
                # The password must not be sent unencrypted.
                server.starttls(context=ssl.create_default_context())
            server.login(unquote(self._url.username), unquote(self._url.password or ""))
        return server


async def send_mails(database: Database, mail: Mail) -> None:
    """Send due mails until cancelled; wait while PostgreSQL or the mail server is unavailable."""
    while True:
        try:
            if not await send_due(database, mail):
                await asyncio.sleep(IDLE_SECONDS)
        except AWAY as error:
            log.warning("Mail waits: %r", error)
            await asyncio.sleep(IDLE_SECONDS)


async def send_due(database: Database, mail: Mail) -> int:
    """Send a batch of due mails; return its size. Raises the first error that is to be retried."""
    async with database.connection() as connection:
        rows = await sql.take_due_mails(connection, batch=BATCH)
    sent = await asyncio.gather(
        *(_send(database, mail, row) for row in rows), return_exceptions=True
    )
    for outcome in sent:
        if outcome is not None:
            raise outcome
    return len(rows)


async def _send(database: Database, mail: Mail, row: Any) -> None:
    crash_here(Point.TAKEN, MAIL)
    failure = await _failure(mail, row)
    crash_here(Point.SENT, MAIL)
    if failure:
        log.warning("No mail for %s order %s: %s", row["kind"], row["order_id"], failure)
    async with database.connection() as connection:
        await sql.note_sent(connection, order_id=row["order_id"], kind=row["kind"], failure=failure)


async def _failure(mail: Mail, row: Any) -> str | None:
    """Send the mail; return None, or why it will never be sent. Raises OSError to be retried."""
    try:
        await mail.send(row)
        return None
    except Undeliverable as failure:
        return str(failure)
    except OSError as error:
        if row["attempts"] >= ATTEMPTS:
            return f"given up after {ATTEMPTS} attempts: {error}"
        raise
