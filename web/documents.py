"""The service's OpenAPI and AsyncAPI documents, and Swagger UI."""

from functools import cache
from typing import Any, cast

import orjson
from aiohttp import web
from faust.web.drivers.aiohttp import Web

from app import app
from web import asyncapi, openapi
from web.http.endpoint import HTML, TEXT, Answer, Declaration, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.pages import STATIC, html

OBJECT = {"type": "object"}


def views() -> list[tuple[str, Any]]:
    """Return every served page, Faust's own included, as (path, view) pairs."""
    return sorted(cast(Web, app.web).views.items())


@cache
def declared_operations() -> list[tuple[str, str, Declaration, str]]:
    """Return every operation: path, method, declaration and description."""
    return list(openapi.operations(views()))


@cache
def _openapi() -> Any:
    return orjson.Fragment(orjson.dumps(openapi.document(views())))


@cache
def _asyncapi() -> Any:
    readers = [
        (name, topic) for name, agent in app.agents.items() for topic in agent.channel.topics
    ]
    return orjson.Fragment(orjson.dumps(asyncapi.document(sorted(readers))))


@app.page("/openapi.json")
class OpenApiView(View):
    """The OpenAPI document."""

    @endpoint("openapi", Answer(200, "OpenAPI 3.1", OBJECT), query=None, needs_servers=False)
    async def get(self, request: web.Request) -> web.Response:
        """Describe the HTTP interface as OpenAPI 3.1."""
        return json_response(_openapi())


@app.page("/v3/api-docs")
class ApiDocsView(View):
    """The OpenAPI document, at the address that Spring clients use."""

    @endpoint("apiDocs", Answer(200, "OpenAPI 3.1", OBJECT), query=None, needs_servers=False)
    async def get(self, request: web.Request) -> web.Response:
        """Describe the HTTP interface as OpenAPI 3.1."""
        return json_response(_openapi())


@app.page("/asyncapi.json")
class AsyncApiView(View):
    """The AsyncAPI document."""

    @endpoint("asyncapi", Answer(200, "AsyncAPI 3", OBJECT), query=None, needs_servers=False)
    async def get(self, request: web.Request) -> web.Response:
        """Describe the topics and their messages as AsyncAPI 3."""
        return json_response(_asyncapi())


@app.page("/docs")
class DocsView(View):
    """Swagger UI."""

    @endpoint("docs", Answer(200, "A page", TEXT, media=HTML), query=None, needs_servers=False)
    async def get(self, request: web.Request) -> web.Response:
        """Serve Swagger UI, to read about and try the HTTP interface."""
        return html(STATIC.joinpath("docs.html").read_text())


@app.page("/swagger-ui/index.html")
class SwaggerUiView(View):
    """Swagger UI, at the address that Spring clients use."""

    @endpoint("swaggerUi", Answer(200, "A page", TEXT, media=HTML), query=None, needs_servers=False)
    async def get(self, request: web.Request) -> web.Response:
        """Serve Swagger UI, to read about and try the HTTP interface."""
        return html(STATIC.joinpath("docs.html").read_text())
