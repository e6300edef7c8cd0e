"""A real SMTP server that keeps the mails it is sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from devstack.ports import free_port


class Mailbox:
    """An SMTP server's handler that keeps its mails and refuses `nobody@…`.

    It refuses every sender while `knows_us` is false, and every recipient while `relays` is.
    """

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.knows_us = self.relays = True
        self.goodbye = "221 Bye"

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not self.knows_us:
            return "530 authenticate first"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 no such user"
        if not self.relays:
            return "554 5.7.1 relay access denied"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.mails.append(envelope)
        return "250 OK"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Envelope) -> str:
        return self.goodbye


@contextmanager
def mail_server() -> Iterator[tuple[Mailbox, str]]:
    """Run the server; yield its mailbox and its URL."""
    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox, f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()
