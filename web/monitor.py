"""Monitoring for administrators: rates, consumer lag, the outbox, and access to Faust's pages."""

from collections.abc import Mapping
from time import monotonic
from typing import Any, cast

from aiohttp import web

from app import app, monitor, request_pool
from app.errors import NotFound
from app.kafka.faust_app import FAUST_PAGES
from app.queries import sql
from app.times import now, rfc3339
from app.tokens import Identity
from app.version import VERSION
from web.answers import Monitor
from web.endpoint import HTML, TEXT, Answer, Who, endpoint
from web.pages import STATIC, html
from web.problems import Handler, View
from web.requests import authenticate_admin, json_response


@app.page("/api/monitor")
class MonitorView(View):
    """The state of this worker."""

    @endpoint("monitor", Answer(200, "How this worker does", Monitor), who=Who.ADMIN)
    async def get(self, request: web.Request, user: Identity) -> web.Response:
        """Return this worker's rates and consumer lag, and the events that wait in the outbox."""
        async with request_pool.connection() as connection:
            waiting = await sql.outbox_waiting(connection)
        oldest = waiting["oldest"]
        answer = {
            "version": VERSION,
            "timestamp": rfc3339(now()),
            "rebalancing": app.rebalancing,
            "messagesPerSecond": monitor.messages_s,
            "eventsPerSecond": monitor.events_s,
            "rebalances": monitor.rebalances,
            "lag": list(lag()),
            "outbox": {
                "waiting": waiting["count"],
                "oldest": oldest and rfc3339(oldest),
            },
        }
        return json_response(answer)


def lag() -> list[dict[str, Any]]:
    """Return the lag of this worker's partitions: messages from the committed offset to the end."""
    # The monitor knows a partition's offset only once this worker has committed one.
    committed: Mapping[Any, int] = {
        **{tp: offset or 0 for tp, offset in cast(Any, app.consumer)._committed_offset.items()},
        **monitor.tp_committed_offsets,
    }
    return [
        {
            "topic": tp.topic,
            "partition": tp.partition,
            "committed": committed.get(tp, 0),
            "end": end,
            "lag": max(end - committed.get(tp, 0), 0),
        }
        for tp, end in sorted(monitor.tp_end_offsets.items())
        if tp in app.assignor.assigned_actives()
    ]


@app.page("/console")
class ConsoleView(View):
    """The administrators' console."""

    @endpoint("console", Answer(200, "A page", TEXT, media=HTML), query=None, needs_servers=False)
    async def get(self, request: web.Request) -> web.Response:
        """Return the page that shows this worker's health, lag and orders to administrators."""
        return html(STATIC.joinpath("console.html").read_text())


@web.middleware
async def count_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count each answer by its status, for Faust's monitor."""
    began = monotonic()
    try:
        answer = await handler(request)
    except web.HTTPException as redirect:
        monitor.answered(redirect.status, monotonic() - began)
        raise
    monitor.answered(answer.status, monotonic() - began)
    return answer


@web.middleware
async def only_administrators(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only administrators see Faust's own pages, where these are served.

    Faust answers an unknown table with its own 404 page or a KeyError; both become NotFound.
    """
    if not request.path.startswith(FAUST_PAGES):
        return await handler(request)
    authenticate_admin(request)
    try:
        response = await handler(request)
    except KeyError:
        raise NotFound from None
    if response.status == NotFound.status:
        raise NotFound
    return response
