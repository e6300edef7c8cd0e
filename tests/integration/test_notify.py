"""Customers are told once, by every channel, through a real SMTP server."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from app.db import Database
from app.notify import Channel, Ended, Log, Mail, Notifier
from app.topics import OrderCancelled, OrderCompleted
from devstack.ports import free_port


class Mailbox:
    """An SMTP server's handler that keeps what it gets and refuses `nobody@…`."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield mailbox, f"smtp://127.0.0.1:{port}"
    controller.stop()


def completed(order_id: UUID, email: str | None = "ann@example.com") -> OrderCompleted:
    return OrderCompleted(**_envelope(order_id, email))


def cancelled(order_id: UUID) -> OrderCancelled:
    return OrderCancelled(**_envelope(order_id, "ann@example.com"), reason="Out of stock")


def _envelope(order_id: UUID, email: str | None) -> dict[str, Any]:
    return {
        "eventId": str(uuid4()),
        "orderId": str(order_id),
        "sequence": 6,
        "occurredAt": "2026-01-03T12:00:00.000000Z",
        "requestId": "a request",
        "userId": str(uuid4()),
        "totalAmount": 99.99,
        "currency": "PLN",
        "customerEmail": email,
    }


async def noted(database: Database, order_id: UUID) -> dict[str, tuple[bool, str | None]]:
    async with database.connection() as connection:
        rows = await connection.fetch("select * from notifications where order_id = $1", order_id)
    return {row["channel"]: (row["sent_at"] is not None, row["failure"]) for row in rows}


async def test_a_redelivered_event_sends_no_second_mail(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    notifier = Notifier(database, [Log(), Mail(url, "shop@example.com")])
    for _ in range(3):
        await notifier.tell_completed([completed(order_id)])
    assert [mail.rcpt_tos for mail in box.mails] == [["ann@example.com"]]
    assert f"Message-ID: <{order_id}.completed@orders>".encode() in box.mails[0].original_content
    assert await noted(database, order_id) == {"log": (True, None), "mail": (True, None)}


async def test_a_mail_about_a_cancelled_order_says_why(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    await Notifier(database, [Mail(url, "shop@example.com")]).tell_cancelled([cancelled(order_id)])
    assert b"is cancelled (Out of stock)" in box.mails[0].original_content


async def test_a_refused_recipient_is_noted_and_not_tried_again(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    _, url = mailbox
    notifier = Notifier(database, [Mail(url, "shop@example.com")])
    await notifier.tell_completed([completed(order_id, "nobody@example.com")])
    (sent, failure) = (await noted(database, order_id))["mail"]
    assert sent and failure and "no such user" in failure


async def test_an_order_without_an_email_needs_no_mail_server(
    database: Database, order_id: UUID
) -> None:
    notifier = Notifier(database, [Mail("smtp://127.0.0.1:1", "shop@example.com")])
    await notifier.tell_completed([completed(order_id, None)])
    assert await noted(database, order_id) == {"mail": (True, None)}


class FailsOnce:
    """A channel that is away at its second message."""

    name = "flaky"

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._away = [False, True]

    async def send(self, kind: str, event: Ended) -> None:
        if self._away and self._away.pop(0):
            raise ConnectionRefusedError
        self.sent.append(event.orderId)


async def test_what_was_sent_before_a_channel_went_away_is_not_sent_again(
    database: Database, order_id: UUID
) -> None:
    channel = FailsOnce()
    notifier = Notifier(database, [channel])
    orders = [order_id, await _another(database, order_id)]
    with pytest.raises(ConnectionRefusedError):
        await notifier.tell_completed([completed(id) for id in orders])
    await notifier.tell_completed([completed(id) for id in orders])
    assert sorted(channel.sent) == sorted(str(id) for id in orders)


async def _another(database: Database, order_id: UUID) -> UUID:
    """A copy of the order."""
    async with database.connection() as connection:
        return await connection.fetchval(
            """
            insert into orders select gen_random_uuid(), user_id, customer_email, status,
                total_minor, currency, cancel_reason, version, created_at, updated_at
            from orders where id = $1 returning id
            """,
            order_id,
        )


def test_the_log_and_the_mail_are_channels() -> None:
    told: list[Channel] = [Log(), Mail("smtp://localhost", "shop@example.com")]
    assert [channel.name for channel in told] == ["log", "mail"]
