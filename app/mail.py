"""Mail to customers over SMTP, from the notifications that the agent has stored.

A mail is leased (`due_at` is postponed), sent, and noted as sent. After a crash in between it is
sent again with the same Message-ID, by which mail systems can drop the duplicate.
"""

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from email.message import EmailMessage
from socket import socket
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from app.crashes import Point, crash_here
from app.db.errors import AWAY
from app.db.pools import Database
from app.db.queries import sql
from app.times import now

log = logging.getLogger(__name__)

BATCH = 10
ATTEMPTS = 10
TIMEOUT_SECONDS = 10
ANSWER_SECONDS = 30
"""The timeouts of connecting and, per answer, of handing over the mail: filters take their time."""
AGAINST_US = b"5.4.", b"5.7."
"""Enhanced codes (RFC 3463) of refusals for routing or policy: a limit, a list that we are not on.
They are not about this mail, and end when somebody has mended the cause."""
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
        mail["Date"] = now()
        mail.set_content(f"Your order {order_id} is {kind}{reason}.\n")
        try:
            mail["To"] = notification["recipient"]
        except Exception as error:
            # The address is any text from a token, and the parser raises many types of exceptions.
            raise Undeliverable(f"not an address: {error!r}") from None
        return mail

    def _deliver(self, mail: EmailMessage) -> None:
        """Send the mail. Raises Undeliverable if it is refused, OSError if a retry may succeed."""
        server = self._connect()
        try:
            server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as refused:
            if all(_is_final(*answer) for answer in refused.recipients.values()):
                raise Undeliverable(str(refused)) from None
            raise
        except smtplib.SMTPDataError as error:
            if _is_final(error.smtp_code, error.smtp_error):
                raise Undeliverable(str(error)) from None
            raise
        except smtplib.SMTPNotSupportedError as error:
            raise Undeliverable(str(error)) from None
        except OSError:
            raise
        except Exception as error:
            # The library formats the addresses only here, and raises many types of exceptions.
            raise Undeliverable(f"not to be written: {error!r}") from None
        finally:
            # What the server says to QUIT does not matter to a mail that it has taken.
            with suppress(OSError):
                server.quit()
            server.close()

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
        cast(socket, server.sock).settimeout(ANSWER_SECONDS)
        return server


def _is_final(code: int, text: bytes | str) -> bool:
    """Return whether the server will never take this mail."""
    told = text if isinstance(text, bytes) else text.encode()
    return code >= 500 and not told.startswith(AGAINST_US)


async def send_mails(
    database: Database,
    mail: Mail,
    batch: Callable[[], AbstractContextManager[None]],
    stopping: Callable[[], bool],
) -> None:
    """Send due mails until `stopping`; wait while PostgreSQL or the mail server is unavailable.

    `batch` marks a batch as in progress, so that a stopping worker waits until it is noted.
    """
    while not stopping():
        try:
            with batch():
                some = await send_due(database, mail)
            if not some:
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
    await _note(database, row, failure)


async def _note(database: Database, row: Any, failure: str | None) -> None:
    """Note that the mail is sent, or why it never will be; wait while PostgreSQL is unavailable.

    Without the note it would be sent again, once its lease is over.
    """
    key = {"order_id": row["order_id"], "kind": row["kind"]}
    while True:
        try:
            async with database.connection() as connection:
                await sql.note_sent(connection, **key, failure=failure)
                return
        except AWAY as error:
            log.warning("A mail that was sent is noted later: %r", error)
            await asyncio.sleep(IDLE_SECONDS)


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
