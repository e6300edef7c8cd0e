"""/api/orders/{id}/events and /explain: an order's timeline, and what it waits for."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from time import time
from typing import Any
from uuid import UUID

import orjson
from aiohttp import hdrs, web

from app import app, followers, request_pool, settings, timeline
from app.db.errors import AWAY
from app.errors import Forbidden, Overloaded, TooManyRequests
from app.explain import explain
from app.identity.tokens import Identity
from app.topics import OrderIntervened
from web.http.accept import prefers
from web.http.endpoint import EVENT_STREAM, JSON, Answer, Who, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.orders import visible_order
from web.shapes.answers import Explanation, ParkedMessage, Timeline

MAX_STREAMS = 1000
"""The most live streams of one worker."""
MAX_STREAMS_OF_A_USER = 20
TOO_MANY_STREAMS = f"You have {MAX_STREAMS_OF_A_USER} open streams on this worker; close one"
HEARTBEAT_SECONDS = 15.0
"""How often an idle stream sends a comment, which also shows whether the client is still there."""
CUSTOMER_FIELDS = {field.alias for field in ParkedMessage.model_fields.values()}
CUSTOMER_EVENT_FIELDS = {OrderIntervened.topic_name: {"action"}}
"""The fields that customers see, of events that are not theirs to see whole."""
STREAM_HEADERS = {"Content-Type": EVENT_STREAM, "X-Accel-Buffering": "no"}
_streams: Counter[UUID] = Counter()
"""The live streams by user."""


@app.page("/api/orders/{order_id}/events")
class OrderEventsView(View):
    """An order's timeline."""

    @endpoint(
        "listOrderEvents",
        Answer(200, "The timeline", Timeline, media=(JSON, EVENT_STREAM)),
        who=Who.USER,
        headers={"Last-Event-ID": "The sequence behind which a stream goes on"},
        own_problems=(Forbidden, TooManyRequests, Overloaded),
    )
    async def get(self, request: web.Request, user: Identity, order_id: UUID) -> web.StreamResponse:
        """Return the order's events, oldest first, or a live stream (SSE) if `Accept` prefers one.

        Of `order.intervened`, customers get the `action` only; administrators also who did it, why,
        and to which message. https://html.spec.whatwg.org/multipage/server-sent-events.html
        """
        last = int(request.headers.get("Last-Event-ID", "0"))
        await visible_order(user, order_id)
        accept = ",".join(request.headers.getall("Accept", []))
        if prefers(accept, EVENT_STREAM, JSON):
            return await _stream(request, user, order_id, last)
        return json_response({"data": await _events(user, order_id, 0)})


async def _stream(
    request: web.Request, user: Identity, order_id: UUID, last: int
) -> web.StreamResponse:
    """Stream the events after `last`, then each new one.

    The stream ends when the client disconnects, the worker stops, or the token expires; a client
    that reconnects with an expired token gets 401. Raises Overloaded, TooManyRequests.
    """
    if _streams.total() >= MAX_STREAMS:
        raise Overloaded("This worker cannot serve more streams; try again shortly")
    if _streams[user.id] >= MAX_STREAMS_OF_A_USER:
        # By then a client that has gone is noticed.
        raise TooManyRequests(ceil(HEARTBEAT_SECONDS), TOO_MANY_STREAMS)
    response = web.StreamResponse(headers=STREAM_HEADERS)
    if request.method == hdrs.METH_HEAD:
        return response
    async with _counted(user.id), followers.follow(order_id) as wake:
        await response.prepare(request)
        while not app.should_stop and (left := user.until - time()) > 0:
            wake.clear()
            text, last = await _news(user, order_id, last)
            try:
                await response.write(text)
            except ConnectionError:
                break
            await app.wait_first(wake.wait(), timeout=min(left, HEARTBEAT_SECONDS))
    return response


@asynccontextmanager
async def _counted(user_id: UUID) -> AsyncIterator[None]:
    _streams[user_id] += 1
    try:
        yield
    finally:
        _streams[user_id] -= 1
        if not _streams[user_id]:
            del _streams[user_id]


async def _news(user: Identity, order_id: UUID, last: int) -> tuple[bytes, int]:
    """Return the text to write, a comment if there are no events, and the last sequence sent."""
    try:
        events = await _events(user, order_id, last)
    except AWAY:
        events = []
    text = b"".join(
        b"id: %d\nevent: %b\ndata: %b\n\n"
        % (event["sequence"], event["type"].encode(), orjson.dumps(event))
        for event in events
    )
    return text or b":\n\n", events[-1]["sequence"] if events else last


async def _events(user: Identity, order_id: UUID, last: int) -> list[dict[str, Any]]:
    """Return what `user` may see of the events after `last`."""
    events = await timeline.events_after(request_pool, order_id, last)
    return events if user.is_admin else [_event_for_customers(event) for event in events]


def _event_for_customers(event: dict[str, Any]) -> dict[str, Any]:
    fields = CUSTOMER_EVENT_FIELDS.get(event["type"], event["data"].keys())
    return {**event, "data": {name: event["data"][name] for name in fields}}


@app.page("/api/orders/{order_id}/explain")
class ExplainView(View):
    """The explanation of an order's status."""

    @endpoint(
        "explainOrder",
        Answer(200, "What it waits for", Explanation),
        who=Who.USER,
        own_problems=(Forbidden,),
    )
    async def get(self, request: web.Request, user: Identity, order_id: UUID) -> web.Response:
        """Return what the order waits for and since when, the next timer, and possible actions.

        Administrators also get the origin and the error of parked messages.
        """
        await visible_order(user, order_id)
        explained = await explain(request_pool, order_id, settings.pays_internally)
        if explained.pop("userId") != str(user.id):
            explained["actions"] = [act for act in explained["actions"] if act == "cancel"]
        if not user.is_admin:
            explained["parked"] = [_for_customers(message) for message in explained["parked"]]
        return json_response(explained)


def _for_customers(parked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parked.items() if name in CUSTOMER_FIELDS}
