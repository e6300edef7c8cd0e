"""The front page, and health checks and metrics for operators and load balancers."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import asyncpg
from aiohttp import web
from faust.tables.manager import TableManager
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import app, health_pool, monitor
from app.db.batching import Batcher
from app.db.errors import AWAY
from app.db.queries import sql
from app.times import now, rfc3339
from app.version import VERSION
from web.http.endpoint import TEXT, Answer, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.shapes.query_strings import ChecksQuery
from web.shapes.worker import Checks, Front, Health

TIMEOUT_SECONDS = 2.0
LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "asyncapi": "/asyncapi.json",
    "problems": "/problems",
    "console": "/console",
    "health": "/health",
    "livez": "/livez",
    "readyz": "/readyz",
    "metrics": "/metrics",
}


@app.page("/")
class FrontView(View):
    """The front page."""

    @endpoint(
        "front", Answer(200, "Name, version and links", Front), query=None, needs_servers=False
    )
    async def get(self, request: web.Request) -> web.Response:
        """Return the service's name, version and links."""
        return json_response({"name": "faust-orders", "version": VERSION, "links": LINKS})


@app.page("/health")
class HealthView(View):
    """Whether PostgreSQL and Kafka can be reached."""

    @endpoint(
        "health",
        Answer(200, "UP", Health),
        Answer(503, "DOWN", Health),
        query=None,
        needs_servers=False,
    )
    async def get(self, request: web.Request) -> web.Response:
        """Return UP, or DOWN if PostgreSQL or Kafka cannot be reached."""
        well = all(await asyncio.gather(_postgres_answers(), _kafka_answers()))
        body = {"status": "UP" if well else "DOWN", "timestamp": rfc3339(now())}
        return json_response(body, 200 if well else 503)


@app.page("/livez")
class LiveView(View):
    """Liveness of the process."""

    @endpoint(
        "livez",
        Answer(200, "It is alive", Checks),
        Answer(503, "It is stopping", Checks),
        query=ChecksQuery,
        needs_servers=False,
    )
    async def get(self, request: web.Request, query: ChecksQuery) -> web.Response:
        """Return whether the process is alive, which it is unless it is stopping."""
        return _checks(query, {"running": not app.should_stop})


@app.page("/readyz")
class ReadyView(View):
    """Readiness of this worker for requests and events."""

    @endpoint(
        "readyz",
        Answer(200, "Send it traffic", Checks),
        Answer(503, "Not now", Checks),
        query=ChecksQuery,
        needs_servers=False,
    )
    async def get(self, request: web.Request, query: ChecksQuery) -> web.Response:
        """Return whether the tables were recovered once, and PostgreSQL answers.

        A later rebalance does not count: it stops the agents of all workers at the same time, but
        none of their requests.
        """
        checks = {
            "running": not app.should_stop,
            "recovered": cast(TableManager, app.tables).recovery.completed.is_set(),
            "postgres": await _postgres_answers(),
        }
        return _checks(query, checks)


@app.page("/metrics")
class MetricsView(View):
    """Metrics for Prometheus."""

    @endpoint(
        "metrics",
        Answer(200, "Prometheus text", TEXT, media=("text/plain",)),
        query=None,
        needs_servers=False,
    )
    async def get(self, request: web.Request) -> web.Response:
        """Return Faust's metrics (`faust_…`) and the service's own (`orders_…`)."""
        monitor.publish()
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _checks(query: ChecksQuery, checks: dict[str, bool]) -> web.Response:
    ok = all(checks.values())
    body: dict[str, object] = {"status": "ok" if ok else "unavailable"}
    if query.verbose is not None:
        body["checks"] = checks
    return json_response(body, 200 if ok else 503)


async def _postgres_answers() -> bool:
    """Return whether PostgreSQL answers in time; probes that come together share one answer."""
    try:
        # A probe that comes while another one waits is made after that.
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await _probes.do(None)
    except AWAY:
        return False


async def _ask_postgres(_: None = None) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), health_pool.connection() as connection:
            return bool(await sql.ping(connection))
    except (*AWAY, asyncpg.PostgresError):
        return False


async def _ask_postgres_once(probes: Sequence[None]) -> list[bool]:
    return [await _ask_postgres()] * len(probes)


_probes: Batcher[None, bool] = Batcher(_ask_postgres_once, _ask_postgres)
"""Probes that come together get one answer: many at once would wait for the one connection."""


async def _kafka_answers() -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            client = cast(Any, app.producer)._producer.client
            return bool(await client.force_metadata_update())
    except (TimeoutError, AttributeError):
        return False
