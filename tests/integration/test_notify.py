"""Customers are notified once, through every channel, by a real SMTP server."""

import asyncio
import smtplib
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.db.pools import Database
from app.db.queries import sql
from app.mail import Mail, send_due
from app.notify import Notifier
from app.times import now
from app.topics import OrderCancelled, OrderCompleted
from tests.integration.mailbox import Mailbox, mail_server

MANUAL = (Path(__file__).parents[2] / "docs/operations.md").read_text()
SEND_AGAIN = MANUAL.split("\n## Mail\n")[1].split("```sql\n")[1].split("```")[0]
MAIL = {"kind": "completed", "recipient": "ann@example.com", "reason": None}


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    with mail_server() as server:
        yield server


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


async def ends(database: Database, order_id: UUID, status: str) -> None:
    async with database.connection() as connection:
        query = "update orders set status = $2, cancel_reason = $3 where id = $1"
        reason = "Out of stock" if status == "CANCELLED" else None
        await connection.execute(query, order_id, status, reason)


async def tell_completed(database: Database, event: OrderCompleted) -> None:
    await ends(database, event.order_id, "COMPLETED")
    async with database.transaction() as transaction:
        await Notifier(sends_mail=True).tell_completed(transaction, [event])


async def make_due(database: Database, order_id: UUID, attempts: int = 0) -> None:
    """Make the next attempt due."""
    async with database.connection() as connection:
        await connection.execute(
            "update notifications set due_at = now(), attempts = $2 where order_id = $1",
            order_id,
            attempts,
        )


async def test_a_redelivered_event_sends_no_second_mail(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    for _ in range(3):
        await tell_completed(database, completed(order_id))
        await send_due(database, Mail(url, "shop@example.com"))
    assert [mail.rcpt_tos for mail in box.mails] == [["ann@example.com"]]
    assert f"Message-ID: <{order_id}.completed@orders>".encode() in box.mails[0].original_content
    assert await noted(database, order_id) == {"log": (True, None), "mail": (True, None)}


async def test_what_the_server_took_is_sent_whatever_else_it_says(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    box.goodbye = "451 busy"
    await tell_completed(database, completed(order_id))
    await send_due(database, Mail(url, "shop@example.com"))
    assert (await noted(database, order_id))["mail"] == (True, None)
    sent = message_from_bytes(box.mails[0].original_content or b"", policy=policy.default)
    assert abs(sent["Date"].datetime - now()) < timedelta(minutes=5)


async def test_a_mail_about_a_cancelled_order_says_why(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    await ends(database, order_id, "CANCELLED")
    async with database.transaction() as transaction:
        await Notifier(sends_mail=True).tell_cancelled(transaction, [cancelled(order_id)])
    await send_due(database, Mail(url, "shop@example.com"))
    assert b"is cancelled (Out of stock)" in box.mails[0].original_content


async def test_a_mail_quotes_no_customer(database: Database, order_id: UUID) -> None:
    """Who orders in somebody's name must not write to them in ours."""
    event = cancelled(order_id)
    event.reason = "Your account is locked: https://evil.example"
    await ends(database, order_id, "CANCELLED")
    async with database.transaction() as transaction:
        await Notifier(sends_mail=True).tell_cancelled(transaction, [event])
    async with database.connection() as connection:
        query = "select reason from notifications where order_id = $1 and channel = 'mail'"
        assert await connection.fetchval(query, order_id) is None


async def test_a_refused_recipient_is_noted_and_not_tried_again(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    _, url = mailbox
    await tell_completed(database, completed(order_id, "nobody@example.com"))
    await send_due(database, Mail(url, "shop@example.com"))
    (sent, failure) = (await noted(database, order_id))["mail"]
    assert sent and failure and "no such user" in failure


async def test_an_event_that_no_longer_fits_tells_nobody(
    database: Database, order_id: UUID
) -> None:
    await ends(database, order_id, "COMPLETED")
    async with database.transaction() as transaction:
        await Notifier(sends_mail=True).tell_cancelled(transaction, [cancelled(order_id)])
    assert await noted(database, order_id) == {}


async def test_an_order_that_does_not_exist_is_an_error(database: Database) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with database.transaction() as transaction:
            await Notifier(sends_mail=False).tell_completed(transaction, [completed(uuid4())])


ODD = [
    *("a@", "<", "x\ny@example.com", "é@exämple.com", ".:", ".user:1", "\t.\t>", "(" * 3000),
    # Python's library accepts these, and fails when it folds them.
    *("()" * 39 + "@b.co", "@b.co.@b.co" + "ü" * 40 + ')ü"'),
]


@pytest.mark.parametrize("email", ODD)
async def test_what_is_no_address_holds_up_nobody(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str], email: str
) -> None:
    await tell_completed(database, completed(order_id, email))
    await send_due(database, Mail(mailbox[1], "shop@example.com"))
    assert (await noted(database, order_id))["mail"][0]


async def test_mail_waits_for_a_server_that_refuses_us(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    box.knows_us = False
    await tell_completed(database, completed(order_id))
    with pytest.raises(smtplib.SMTPSenderRefused):
        await send_due(database, Mail(url, "shop@example.com"))
    assert (await noted(database, order_id))["mail"] == (False, None)
    with pytest.raises(smtplib.SMTPNotSupportedError):
        clear = url.replace("smtp://", "smtp://us:password@")
        await Mail(clear, "shop@example.com").send({**MAIL, "order_id": order_id})
    box.knows_us, box.relays = True, False
    await make_due(database, order_id)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        await send_due(database, Mail(url, "shop@example.com"))
    assert (await noted(database, order_id))["mail"] == (False, None)
    box.relays = True
    await make_due(database, order_id)
    await send_due(database, Mail(url, "shop@example.com"))
    assert len(box.mails) == 1


async def test_an_order_without_an_email_has_no_mail(database: Database, order_id: UUID) -> None:
    await tell_completed(database, completed(order_id, None))
    assert await noted(database, order_id) == {"log": (True, None)}


async def test_a_mail_waits_for_its_server_and_is_given_up_in_the_end(
    database: Database, order_id: UUID
) -> None:
    nowhere = Mail("smtp://127.0.0.1:1", "shop@example.com")
    await tell_completed(database, completed(order_id))
    with pytest.raises(ConnectionRefusedError):
        await send_due(database, nowhere)
    assert (await noted(database, order_id))["mail"] == (False, None)
    assert await send_due(database, nowhere) == 0, "it is not due yet"
    await make_due(database, order_id, 1000)
    await send_due(database, nowhere)
    (sent, failure) = (await noted(database, order_id))["mail"]
    assert sent and failure and failure.startswith("given up")


async def test_mails_that_a_server_does_not_take_are_counted_until_they_are_sent_again(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    before = await failing(database)
    nowhere = Mail("smtp://127.0.0.1:1", "shop@example.com")
    await tell_completed(database, completed(order_id))
    for attempt, counted in ((1, 0), (2, 0), (3, 1)):
        await make_due(database, order_id, attempt - 1)
        with pytest.raises(ConnectionRefusedError):
            await send_due(database, nowhere)
        assert await failing(database) - before == counted, attempt
    await make_due(database, order_id, 1000)
    await send_due(database, nowhere)
    assert await failing(database) - before == 1, "it is given up"
    async with database.connection() as connection:
        await connection.execute(SEND_AGAIN)
    await send_due(database, Mail(url, "shop@example.com"))
    assert any(str(order_id).encode() in mail.original_content for mail in box.mails)
    assert (await noted(database, order_id))["mail"] == (True, None)
    assert await failing(database) == 0


async def test_a_refused_recipient_is_not_the_servers_failure(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    _, url = mailbox
    before = await failing(database)
    await tell_completed(database, completed(order_id, "nobody@example.com"))
    await send_due(database, Mail(url, "shop@example.com"))
    assert await failing(database) == before
    async with database.connection() as connection:
        await connection.execute(SEND_AGAIN)
    assert (await noted(database, order_id))["mail"][0], "it is not sent again"


async def failing(database: Database) -> int:
    async with database.connection() as connection:
        return int(await sql.mails_failing(connection))


async def test_two_workers_do_not_take_the_same_mail(
    database: Database, order_id: UUID, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    await tell_completed(database, completed(order_id))
    mail = Mail(url, "shop@example.com")
    assert sorted(await asyncio.gather(send_due(database, mail), send_due(database, mail))) == [
        0,
        1,
    ]
    assert len(box.mails) == 1
