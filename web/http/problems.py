"""Translate errors to `application/problem+json` (RFC 9457)."""

import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import orjson
from aiohttp import web
from faust.web import View as FaustView
from faust.web.exceptions import WebError

from app.db.errors import AWAY
from app.errors import (
    ExpectationFailed,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Problem,
    TokenExpired,
    Unauthorized,
    Unavailable,
)
from app.logs import request_id
from app.text import is_request_id
from web.http.headers import REQUEST_ID, SERVED_AS
from web.http.requests import bearer_token

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TYPES = "https://order-service/problems/"
"""The prefix of a problem's slug in `type`."""
TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
IN_PATHS = "/%:@!$&'()*+,;="
"""The characters that are not escaped in a path, besides letters, digits and `-._~`."""


class View(FaustView):
    """A resource; its methods raise Problem."""

    def get_methods(self) -> set[str]:
        """Return the view's methods, with HEAD only beside GET; Faust always adds HEAD."""
        methods = set(super().get_methods())
        return methods if "GET" in methods else methods - {"HEAD"}

    async def on_request_error(self, request: Any, exc: WebError) -> Any:
        """Raise MethodNotAllowed: Faust raises WebError only for methods that the view lacks."""
        raise MethodNotAllowed


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the request's id, and translate what the handler raises."""
    with with_request_id(request):
        return await _answer(request, handler)


@contextmanager
def with_request_id(request: web.BaseRequest) -> Iterator[None]:
    """Set the request's id: the client's if valid, else that of its trace, else a new one."""
    id = _offered_id(request) or _trace_id(request) or str(uuid4())
    request[SERVED_AS] = id
    token = request_id.set(id)
    try:
        yield
    finally:
        request_id.reset(token)


def _offered_id(request: web.BaseRequest) -> str | None:
    offered = request.headers.get(REQUEST_ID, "")
    return offered if is_request_id(offered) else None


def _trace_id(request: web.BaseRequest) -> str | None:
    """Return the id of the request's trace (32 hexadecimal digits), if it has one.

    https://www.w3.org/TR/trace-context/#traceparent-header
    """
    match = TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return match[1] if match else None


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(request, problem)
    except web.HTTPException as error:
        return _http_error(request, error)
    except AWAY as error:
        log.warning("%s %s is unavailable: %r", request.method, safe_path(request), error)
        return problem_response(request, Unavailable())
    except Exception:
        log.exception("%s %s failed", request.method, safe_path(request))
        return problem_response(request, Problem("The request failed; the error was logged"))


def _http_error(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    if error.status < 400:
        raise error
    response = problem_response(request, http_problem(error.status))
    if allow := error.headers.get("Allow"):
        response.headers["Allow"] = allow
    return response


def http_problem(status: int) -> Problem:
    """Return the problem that corresponds to an HTTP error of aiohttp."""
    problems = {404: NotFound, 405: MethodNotAllowed, 413: PayloadTooLarge, 417: ExpectationFailed}
    if status in problems:
        return problems[status]()
    return InvalidInput([], "The request is not valid HTTP") if status < 500 else Problem()


def safe_path(request: web.BaseRequest) -> str:
    """Return the raw path; characters that no URI may hold (RFC 3986, 3.3) are escaped."""
    return quote(request.rel_url.raw_path, safe=IN_PATHS)


def _challenge(request: web.BaseRequest, problem: Problem) -> str:
    """Return the challenge of a 401; a client that sent a token learns that it needs another.

    https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    """
    if not isinstance(problem, Unauthorized) or not bearer_token(request):
        return "Bearer"
    told = f', error_description="{problem.detail}"' if isinstance(problem, TokenExpired) else ""
    return f'Bearer error="invalid_token"{told}'


def problem_response(request: web.BaseRequest, problem: Problem) -> web.Response:
    """Return the answer for a problem, with only what clients may know."""
    body: dict[str, Any] = {
        "type": f"{TYPES}{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": safe_path(request),
        "requestId": request_id.get(),
    }
    if problem.errors or isinstance(problem, InvalidInput):
        body["errors"] = [asdict(error) for error in problem.errors]
    response = web.Response(
        status=problem.status, body=orjson.dumps(body), content_type="application/problem+json"
    )
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = _challenge(request, problem)
    return response
