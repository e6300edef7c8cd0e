"""Monitoring for administrators: rates, consumer lag and the outbox."""

from collections.abc import Mapping
from typing import Any, cast

from aiohttp import web

from app import app, monitor, request_pool
from app.db.queries import sql
from app.identity.tokens import Identity
from app.times import now, rfc3339
from app.version import VERSION
from web.http.endpoint import HTML, TEXT, Answer, Who, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.pages import STATIC, html
from web.shapes.worker import Monitor


@app.page("/api/monitor")
class MonitorView(View):
    """The state of this worker."""

    @endpoint("monitor", Answer(200, "The state of this worker", Monitor), who=Who.ADMIN)
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
