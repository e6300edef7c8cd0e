"""Errors become `application/problem+json` (RFC 9457) here, and nowhere else."""

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, cast
from uuid import uuid4

import orjson
from aiohttp import web
from faust.web import View as FaustView
from faust.web.drivers.aiohttp import Web
from faust.web.exceptions import WebError

from app import app
from app.db import AWAY
from app.errors import (
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Problem,
    Unavailable,
)
from app.logs import request_id

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REQUEST_ID = "X-Request-Id"


class View(FaustView):
    """A resource; its methods raise Problem."""

    async def on_request_error(self, request: Any, exc: WebError) -> Any:
        """Faust raises WebError only for methods that the view does not have."""
        raise MethodNotAllowed


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, and translate what it raises."""
    token = request_id.set(_request_id(request.headers.get(REQUEST_ID)))
    try:
        response = await _answer(request, handler)
        response.headers[REQUEST_ID] = request_id.get()
        return response
    finally:
        request_id.reset(token)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(request, problem)
    except web.HTTPException as error:
        return _http_error(request, error)
    except AWAY as error:
        log.warning("%s %s is unavailable: %r", request.method, request.path, error)
        return problem_response(request, Unavailable())
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return problem_response(request, Problem("The request failed; the error was logged"))


def _http_error(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    if error.status < 400:
        raise error
    problems = {404: NotFound, 405: MethodNotAllowed, 413: PayloadTooLarge}
    response = problem_response(request, problems.get(error.status, InvalidRequest)())
    if allow := error.headers.get("Allow"):
        response.headers["Allow"] = allow
    return response


class InvalidRequest(InvalidInput):
    """The request is not valid HTTP"""

    def __init__(self) -> None:
        super().__init__([])


def problem_response(request: web.Request, problem: Problem) -> web.Response:
    """The problem as its answer; nothing of it is told but what the client may know."""
    body: dict[str, Any] = {
        "type": f"https://order-service/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.path,
        "requestId": request_id.get(),
    }
    if isinstance(problem, InvalidInput):
        body["errors"] = [asdict(error) for error in problem.errors]
    response = web.Response(
        status=problem.status, body=orjson.dumps(body), content_type="application/problem+json"
    )
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _request_id(offered: str | None) -> str:
    """The client's id if it is 1 to 128 printable ASCII characters, else a new one."""
    if offered and re.fullmatch(r"[\x20-\x7e]{1,128}", offered):
        return offered
    return str(uuid4())


cast(Web, app.web).web_app.middlewares.append(answer_problems)
