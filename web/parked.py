"""/api/parked: parked messages, and how administrators resolve them."""

from functools import partial
from uuid import UUID

from aiohttp import web

from app import app, parked, request_pool
from app.errors import AlreadyResolved
from app.identity.tokens import Identity
from app.logs import request_id
from app.operations import intervention
from app.operations.intervention import Actor
from web.cursors import NEXT_PAGE, page_of
from web.http.endpoint import Answer, Link, Who, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.shapes.parked import Discard, Outcomes, ParkedPage, ParkedQuery, Replay, WholeMessage


@app.page("/api/parked")
class ParkedView(View):
    """Parked messages."""

    @endpoint(
        "listParked",
        Answer(200, "A page", ParkedPage, links=(Link("listParked", NEXT_PAGE),)),
        who=Who.ADMIN,
        query=ParkedQuery,
    )
    async def get(self, request: web.Request, user: Identity, query: ParkedQuery) -> web.Response:
        """List parked messages, latest first; without `state`, those that are unresolved."""
        order_id = query.order_id
        filters = ["parked", query.handler, str(order_id), query.state]
        find = partial(parked.page, request_pool, query.handler, order_id, query.state)
        return json_response(await page_of(query.cursor, query.limit, filters, find))


@app.page("/api/parked/{parked_id}")
class ParkedMessageView(View):
    """One parked message."""

    @endpoint("getParked", Answer(200, "The message", WholeMessage), who=Who.ADMIN)
    async def get(self, request: web.Request, user: Identity, parked_id: UUID) -> web.Response:
        """Return the message with its key, value and headers, and how it was resolved."""
        return json_response(await parked.get(request_pool, parked_id))


@app.page("/api/parked/{parked_id}/replay")
class ReplayView(View):
    """Replay of a parked message."""

    @endpoint(
        "replayParked",
        Answer(200, "The outcome of each message, or what it would have been", Outcomes),
        who=Who.ADMIN,
        body=Replay,
        own_problems=(AlreadyResolved,),
    )
    async def post(
        self, request: web.Request, user: Identity, parked_id: UUID, body: Replay
    ) -> web.Response:
        """Replay the message, and then those that wait behind it, in order.

        If the message holds up its order, replay starts at the order's first parked message. It
        stops at the first message that is refused again.
        """
        outcomes = await intervention.replay(
            request_pool, parked_id, _actor(user, body.reason), body.dry_run
        )
        return json_response({"dryRun": body.dry_run, "messages": outcomes})


@app.page("/api/parked/{parked_id}/discard")
class DiscardView(View):
    """Discarding of a parked message."""

    @endpoint(
        "discardParked",
        Answer(200, "The outcome of each message", Outcomes),
        who=Who.ADMIN,
        body=Discard,
        own_problems=(AlreadyResolved,),
    )
    async def post(
        self, request: web.Request, user: Identity, parked_id: UUID, body: Discard
    ) -> web.Response:
        """Discard the message, and replay those that wait behind it, in order."""
        outcomes = await intervention.discard(request_pool, parked_id, _actor(user, body.reason))
        return json_response({"dryRun": False, "messages": outcomes})


def _actor(user: Identity, reason: str) -> Actor:
    named = f"{user.email} ({user.id})" if user.email else str(user.id)
    return Actor(named, reason, request_id.get())
