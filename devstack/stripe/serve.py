"""The stand-in's web application."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from aiohttp import web

from devstack.stripe.api import Api
from devstack.stripe.control import Control
from devstack.stripe.errors import ApiError
from devstack.stripe.faults import Faults
from devstack.stripe.objects import now
from devstack.stripe.page import Page
from devstack.stripe.state import State
from devstack.stripe.webhooks import Webhooks

EXPIRY_SECONDS = 1.0


def application(
    base_url: str, key: str, secrets: Sequence[str], webhook_url: str
) -> web.Application:
    """Create Stripe at `base_url` with API key `key`; webhooks are signed with all `secrets`."""
    webhooks, faults = Webhooks(webhook_url, secrets), Faults()
    state = State(base_url, webhooks.tell)

    async def live(app: web.Application) -> AsyncIterator[None]:
        expiring = asyncio.create_task(expire_sessions(state))
        yield
        expiring.cancel()
        with suppress(asyncio.CancelledError):
            await expiring
        await webhooks.close()

    app = web.Application()
    app.cleanup_ctx.append(live)
    app.add_routes(Api(state, faults, key).routes())
    app.add_routes(Page(state).routes())
    app.add_routes(Control(state, faults, webhooks).routes())
    return app


async def expire_sessions(state: State) -> None:
    """Expire sessions whose time is over, until cancelled."""
    while True:
        for id, session in list(state.sessions.items()):
            if session["status"] == "open" and session["expires_at"] <= now():
                with suppress(ApiError):
                    state.expire(id)
        await asyncio.sleep(EXPIRY_SECONDS)
