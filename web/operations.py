"""What operators and load balancers ask: is it alive, is it ready, is it well."""

import asyncio
from importlib.metadata import version
from typing import Any, cast

from aiohttp import web
from faust.tables.manager import TableManager

from app import app, database
from app.db import AWAY, sql
from app.times import now, rfc3339
from web.problems import View
from web.requests import json_response

PATIENCE_SECONDS = 2.0
VERSION = version("faust-orders")


@app.page("/")
class FrontView(View):
    """What this is."""

    async def get(self, request: web.Request) -> web.Response:
        """Name, version, and where to go on."""
        links = {name: f"/{name}" for name in ("health", "livez", "readyz", "metrics")}
        return json_response({"name": "faust-orders", "version": VERSION, "links": links})


@app.page("/health")
class HealthView(View):
    """Whether PostgreSQL and Kafka can be reached."""

    async def get(self, request: web.Request) -> web.Response:
        """UP or DOWN."""
        well = all(await asyncio.gather(_postgres_answers(), _kafka_answers()))
        body = {"status": "UP" if well else "DOWN", "timestamp": rfc3339(now())}
        return json_response(body, 200 if well else 503)


@app.page("/livez")
class LiveView(View):
    """Whether the process serves."""

    async def get(self, request: web.Request) -> web.Response:
        """Always, unless it is stopping."""
        return _checks(request, {"running": not app.should_stop})


@app.page("/readyz")
class ReadyView(View):
    """Whether this worker takes requests and events."""

    async def get(self, request: web.Request) -> web.Response:
        """Ready once partitions are assigned, tables recovered and PostgreSQL answers."""
        checks = {
            "running": not app.should_stop,
            "assigned": not app.rebalancing,
            "recovered": cast(TableManager, app.tables).recovery.completed.is_set(),
            "postgres": await _postgres_answers(),
        }
        return _checks(request, checks)


def _checks(request: web.Request, checks: dict[str, bool]) -> web.Response:
    ok = all(checks.values())
    body: dict[str, object] = {"status": "ok" if ok else "unavailable"}
    if "verbose" in request.query:
        body["checks"] = checks
    return json_response(body, 200 if ok else 503)


async def _postgres_answers() -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), database.connection() as connection:
            return bool(await sql.ping(connection))
    except AWAY:
        return False


async def _kafka_answers() -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            client = cast(Any, app.producer)._producer.client
            return bool(await client.force_metadata_update())
    except (TimeoutError, AttributeError):
        return False
