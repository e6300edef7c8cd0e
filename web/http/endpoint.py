"""Declared operations: who may call them, what they read, and what they answer.

A declaration both processes requests (authenticate, read, refuse) and documents the operation:
`web.openapi` generates OpenAPI from it, so the two cannot diverge.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial, wraps
from inspect import isawaitable
from typing import Any, TypeVar, cast

from aiohttp import web
from faust.web import View as FaustView

from app import limiter
from app.errors import (
    BodyTooSlow,
    ExpectationFailed,
    Forbidden,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidInput,
    OrderNotFound,
    ParkedNotFound,
    PayloadTooLarge,
    Problem,
    ProductNotFound,
    StaleVersion,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from app.identity.tokens import Identity
from web.http.body_reading import read
from web.http.problems import safe_path
from web.http.query_reading import read_query
from web.http.requests import (
    authenticate,
    authenticate_admin,
    check_header,
    idempotency_key,
    path_id,
    required_versions,
)
from web.shapes.bodies import Body
from web.shapes.query_strings import Query

log = logging.getLogger(__name__)


class Who(Enum):
    """Who may call an operation."""

    ANYONE = "anyone"
    USER = "user"
    ADMIN = "admin"


NOT_FOUND: Mapping[str, type[Problem]] = {
    "order_id": OrderNotFound,
    "product_id": ProductNotFound,
    "parked_id": ParkedNotFound,
}
"""The problem when nothing has an id of the path, by the name of that id."""

JSON, PROBLEM_JSON, EVENT_STREAM = (
    "application/json",
    "application/problem+json",
    "text/event-stream",
)

READING = ("GET", "HEAD")
HTML = ("text/html",)
TEXT: Mapping[str, Any] = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Link:
    """An operation that can follow an answer (OpenAPI's Link Object).

    `parameters` and `body` tell where their values are found in the request or its answer.
    """

    operation: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its status, description, body shape, headers, links and media types."""

    status: int
    description: str
    shape: Any = None
    headers: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    media: tuple[str, ...] = (JSON,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The static description of an operation."""

    name: str
    answers: tuple[Answer, ...]
    who: Who = Who.ANYONE
    body: type[Body] | None = None
    body_required: bool = True
    """Whether an empty object, which a missing body is read as, lacks something."""
    query: type[Query] | None = Query
    """The query string's shape; by default no parameters are allowed, with None any are ignored."""
    sheds: Callable[[web.Request, Identity], Awaitable[None]] | None = None
    """Raises Overloaded for a user's request that is refused before its body is read."""
    idempotent: bool = False
    conditional: bool = False
    limited: bool = False
    """Whether calls are rate limited by address."""
    needs_servers: bool = True
    """Whether it may answer 503 because a server that it needs is away."""
    own_problems: tuple[type[Problem], ...] = ()
    raw_body: str | None = None
    """The description of a body that the handler reads itself; None if there is none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of further request headers, by name."""

    def problems(self, path: str) -> set[type[Problem]]:
        """Return every problem that a request to `path` may be answered with, except a 500."""
        found: set[type[Problem]] = {InvalidInput, ExpectationFailed, *self.own_problems}
        found |= {problem for name, problem in NOT_FOUND.items() if f"{{{name}}}" in path}
        found |= {Unauthorized} if self.who is not Who.ANYONE else set()
        found |= {Forbidden} if self.who is Who.ADMIN else set()
        if self.body or self.raw_body or self.idempotent:
            found |= {UnsupportedMediaType, PayloadTooLarge, BodyTooSlow}
        found |= {IdempotencyKeyReused, IdempotencyInProgress} if self.idempotent else set()
        found |= {StaleVersion} if self.conditional else set()
        found |= {TooManyRequests} if self.limited else set()
        return found | ({Unavailable} if self.needs_servers else set())

    async def read(self, request: web.Request, path: Mapping[str, str]) -> dict[str, Any]:
        """Check the request and return the handler's arguments. Raises one of `problems`.

        The checks run in the order that clients expect: rate limit, authentication, overload, then
        input.
        """
        given: dict[str, Any] = {}
        if self.limited:
            await limiter.count_request(request.remote)
        if self.who is not Who.ANYONE:
            given["user"] = self._identify(request)
            if self.sheds:
                await self.sheds(request, given["user"])
        given |= {
            n: path_id(text, NOT_FOUND[n]) if n in NOT_FOUND else text for n, text in path.items()
        }
        flaws: list[InvalidInput] = []
        for argument, reader in self._readers(request, given.get("user")):
            with _collected(flaws):
                value = reader()
                value = await value if isawaitable(value) else value
                if argument:
                    given[argument] = value
        if flaws:
            raise _all_of(flaws)
        return given

    def _identify(self, request: web.Request) -> Identity:
        """Return the caller, and log what administrators change. Raises Unauthorized, Forbidden."""
        identify = authenticate_admin if self.who is Who.ADMIN else authenticate
        user = identify(request)
        if user.is_admin and request.method not in READING:
            log.info("%s %s by administrator %s", request.method, safe_path(request), user.id)
        return user

    def _readers(
        self, request: web.Request, user: Identity | None
    ) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield what reads or checks each part of the input, with the handler's argument for it.

        What is only checked has no argument.
        """
        if self.query not in (None, Query):
            yield "query", partial(read_query, request, self.query)
        elif self.query and request.query_string:
            yield "", partial(read_query, request, self.query)
        if self.body:
            yield "body", partial(read, request, self.body)
        for name in self.headers:
            yield "", partial(check_header, request, name)
        if self.conditional:
            yield "versions", partial(required_versions, request)
        if self.idempotent and user:
            yield "key", partial(idempotency_key, request, user)


@contextmanager
def _collected(flaws: list[InvalidInput]) -> Iterator[None]:
    """Collect InvalidInput, so that the client is told of every bad part of its request at once.

    Any other problem is raised, unless a flaw was found before it. That a body does not come is
    always raised: whatever else needs the body would wait for it again.
    """
    try:
        yield
    except InvalidInput as flaw:
        flaws.append(flaw)
    except BodyTooSlow:
        raise
    except Problem:
        if not flaws:
            raise


def _all_of(flaws: Sequence[InvalidInput]) -> InvalidInput:
    """Return one error; a body that cannot be read is a flaw of whatever needs it."""
    errors = list(dict.fromkeys(error for flaw in flaws for error in flaw.errors))
    return flaws[0] if errors == flaws[0].errors else InvalidInput(errors)


Handler = TypeVar("Handler", bound=Callable[..., Awaitable[web.StreamResponse]])


def endpoint(name: str, *answers: Answer, **declared: Any) -> Callable[[Handler], Handler]:
    """Declare a view's method as the operation `name`; see Declaration for the options.

    The method is called with keyword arguments for what was declared: `user`, `body`, `query`,
    `key`, `versions`, and the ids of its path.
    """
    declaration = Declaration(name=name, answers=answers, **declared)

    def declare(handler: Handler) -> Handler:
        @wraps(handler)
        async def serve(view: FaustView, request: web.Request, **path: str) -> Any:
            return await handler(view, request, **await declaration.read(request, path))

        cast(Any, serve).declaration = declaration
        return cast(Handler, serve)

    return declare


def declaration_of(method: Any) -> Declaration | None:
    """Return the declaration of a view's method; None if it has none."""
    return getattr(method, "declaration", None)
