"""Problems, as the OpenAPI document describes them: one schema, and an example of each type.

The types that an answer may have are told by its examples, not by a schema of its own: from one for
each status and operation, generators of clients make hundreds of classes, or none.
"""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

from app.errors import InvalidInput, Problem
from web.http.endpoint import PROBLEM_JSON
from web.http.problems import TYPES
from web.openapi_headers import Json, header_references

SCHEMA = {"$ref": "#/components/schemas/ProblemDetails"}


def problem_answer(status: int, problems: list[type[Problem]]) -> Json:
    """Describe the answers with this status, which are all problems."""
    told = "; ".join(str(problem.__doc__) for problem in problems)
    examples = {
        problem.slug: {"$ref": f"#/components/examples/{problem.slug}"} for problem in problems
    }
    return {
        "description": f"{HTTPStatus(status).phrase}: {told}",
        "headers": header_references(_headers(status, problems)),
        "content": {PROBLEM_JSON: {"schema": SCHEMA, "examples": examples}},
    }


def _headers(status: int, problems: list[type[Problem]]) -> Iterator[str]:
    if status == HTTPStatus.UNAUTHORIZED:
        yield "WWW-Authenticate"
    if any(problem.retry_after for problem in problems):
        yield "Retry-After"


def problem_examples(problems: Iterable[type[Problem]]) -> Json:
    """Return an example of each problem, by its slug."""
    return {
        problem.slug: {"summary": problem.title, "value": _example(problem)}
        for problem in sorted(problems, key=lambda problem: problem.slug)
    }


def _example(problem: type[Problem]) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": f"{TYPES}{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.__doc__,
        "instance": "/api/orders",
        "requestId": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    if issubclass(problem, InvalidInput):
        field = {"detail": "must be at least 1", "pointer": "#/items/0/quantity"}
        example["errors"] = [field]
    return example
