"""The stand-in's web application."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from aiohttp import web

from devstack.stripe.api import Api
from devstack.stripe.books import Books
from devstack.stripe.control import Control
from devstack.stripe.errors import ApiError
from devstack.stripe.faults import Faults
from devstack.stripe.objects import now
from devstack.stripe.page import Page
from devstack.stripe.webhooks import Webhooks

EXPIRY_SECONDS = 1.0


def application(
    base_url: str, key: str, secrets: Sequence[str], webhook_url: str
) -> web.Application:
    """Create Stripe at `base_url` with API key `key`; webhooks are signed with all `secrets`."""
    webhooks, faults = Webhooks(webhook_url, secrets), Faults()
    books = Books(base_url, webhooks.tell)

    async def live(app: web.Application) -> AsyncIterator[None]:
        expiring = asyncio.create_task(expire_sessions(books))
        yield
        expiring.cancel()
        with suppress(asyncio.CancelledError):
            await expiring
        await webhooks.close()

    app = web.Application()
    app.cleanup_ctx.append(live)
    app.add_routes(Api(books, faults, key).routes())
    app.add_routes(Page(books).routes())
    app.add_routes(Control(books, faults, webhooks).routes())
    return app


async def expire_sessions(books: Books) -> None:
    """Expire sessions whose time is over, until cancelled."""
    while True:
        for id, session in list(books.sessions.items()):
            if session["status"] == "open" and session["expires_at"] <= now():
                with suppress(ApiError):
                    books.expire(id)
        await asyncio.sleep(EXPIRY_SECONDS)
