"""The OpenAPI 3.1 document, generated from the views' declarations.

https://spec.openapis.org/oas/v3.1.1
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from app.errors import Problem
from app.version import VERSION
from web.http.endpoint import (
    JSON,
    NOT_FOUND,
    TEXT,
    Answer,
    Declaration,
    Link,
    Who,
    declaration_of,
)
from web.http.requests import FORMS
from web.openapi_headers import (
    ANSWER_HEADERS,
    EVERY_REQUEST,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    Json,
    header_references,
)
from web.openapi_problems import problem_answer, problem_examples
from web.shapes.answers import ProblemDetails

METHODS = ("get", "post", "patch", "put", "delete")
REFERENCE = "#/components/schemas/{model}"
BEARER = "bearer"
TAG_DESCRIPTIONS = {
    "auth": "Accounts and tokens",
    "monitor": "What the console shows of the workers",
    "operations": "Health, metrics, and documents such as this one",
    "orders": "Orders: placed, paid, cancelled, and what became of them",
    "parked": "Messages that could not be handled and wait for an operator",
    "products": "The catalogue and its stock",
    "stripe": "What Stripe reports",
}
"""What the operations below each first part of a path are about."""


def document(views: Iterable[tuple[str, Any]]) -> Json:
    """Return the document of all operations that `views`, (path, view) pairs, declare."""
    declared = list(operations(views))
    paths: Json = defaultdict(dict)
    for path, method, declaration, docstring in declared:
        paths[path][method] = _operation(path, declaration, docstring)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Orders",
            "version": VERSION,
            "description": "Event-driven orders: placed and paid over HTTP, carried out by a "
            "pipeline. Every error is application/problem+json (RFC 9457).",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": told} for name, told in TAG_DESCRIPTIONS.items()],
        "paths": dict(paths),
        "components": {
            "schemas": _schemas([declaration for _, _, declaration, _ in declared]),
            "examples": problem_examples(
                {problem for path, _, one, _ in declared for problem in one.problems(path)}
            ),
            "headers": ANSWER_HEADERS,
            "securitySchemes": {
                BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def operations(views: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str, Declaration, str]]:
    """Yield every declared operation: its path, method, declaration and description."""
    for path, view in views:
        for method in METHODS:
            handler = getattr(view, method)
            if declaration := declaration_of(handler):
                yield path, method, declaration, cleandoc(handler.__doc__ or "")


def _schemas(declarations: list[Declaration]) -> Json:
    sent: set[type[BaseModel]] = {d.body for d in declarations if d.body}
    answered: set[type[BaseModel]] = {
        answer.shape
        for declaration in declarations
        for answer in declaration.answers
        if isinstance(answer.shape, type) and issubclass(answer.shape, BaseModel)
    }
    shapes = [*_modes(sent, "validation"), *_modes({*answered, ProblemDetails}, "serialization")]
    _, schemas = models_json_schema(shapes, ref_template=REFERENCE)
    return dict(sorted(schemas["$defs"].items()))


def _modes(shapes: set[type[BaseModel]], mode: JsonSchemaMode) -> list[Any]:
    return [(shape, mode) for shape in sorted(shapes, key=lambda shape: shape.__name__)]


def _tag(path: str) -> str:
    _, first, *more = path.split("/")
    return more[0] if first == "api" else "operations"


def _operation(path: str, declared: Declaration, docstring: str) -> Json:
    operation: Json = {
        "operationId": declared.name,
        "tags": [_tag(path)],
        "summary": docstring.splitlines()[0].rstrip("."),
        "description": docstring,
        "parameters": list(_parameters(path, declared)),
        "responses": _responses(path, declared),
        "security": [] if declared.who is Who.ANYONE else [{BEARER: []}],
    }
    if declared.body:
        content = {JSON: {"schema": {"$ref": REFERENCE.format(model=declared.body.__name__)}}}
        operation["requestBody"] = {"required": declared.body_required, "content": content}
    if declared.raw_body:
        content = {JSON: {"schema": {"type": "object", "description": declared.raw_body}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(path: str, declared: Declaration) -> Iterator[Json]:
    for part in path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            schema = {"type": "string", **({"format": "uuid"} if name in NOT_FOUND else {})}
            yield {"name": name, "in": "path", "required": True, "schema": schema}
    if declared.query:
        yield from _query_parameters(declared.query)
    if declared.idempotent:
        yield IDEMPOTENCY_KEY
    if declared.conditional:
        yield IF_MATCH
    for name, told in declared.headers.items():
        form = {"pattern": f"^{FORMS[name][0]}$"} if name in FORMS else {}
        schema = {"type": "string", **form}
        yield {"name": name, "in": "header", "description": told, "schema": schema}
    yield from EVERY_REQUEST


def _query_parameters(shape: type[BaseModel]) -> Iterator[Json]:
    schema = shape.model_json_schema(ref_template=REFERENCE)
    for name, field in schema["properties"].items():
        yield {
            "name": name,
            "in": "query",
            "description": field.pop("description", ""),
            "required": name in schema.get("required", []),
            "schema": _without_null(field),
        }


def _without_null(schema: Json) -> Json:
    """Remove null from the schema: a query parameter can be left out, but not be null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    more = {k: v for k, v in schema.items() if k not in ("anyOf", "title") and v is not None}
    return {**more, **kinds[0]} if len(kinds) == 1 else more


def _responses(path: str, declared: Declaration) -> Json:
    responses = {str(answer.status): _answer(answer) for answer in declared.answers}
    by_status: dict[int, list[type[Problem]]] = defaultdict(list)
    for problem in sorted(declared.problems(path), key=lambda problem: problem.slug):
        by_status[problem.status].append(problem)
    for status, problems in sorted(by_status.items()):
        described = problem_answer(status, problems)
        if answer := responses.get(str(status)):
            answer["content"] |= described["content"]
        else:
            responses[str(status)] = described
    return responses


def _answer(answer: Answer) -> Json:
    schema = _schema(answer.shape)
    content = {
        media: {"schema": schema if media == answer.media[0] else TEXT} for media in answer.media
    }
    described: Json = {
        "description": answer.description,
        "headers": header_references(answer.headers),
    }
    described |= {"content": content} if answer.shape is not None else {}
    links = {link.operation: _link(link) for link in answer.links}
    return described | ({"links": links} if links else {})


def _schema(shape: Any) -> Json:
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return {"$ref": REFERENCE.format(model=shape.__name__)}
    return dict(shape or {})


def _link(link: Link) -> Json:
    told: Json = {"operationId": link.operation}
    told |= {"parameters": dict(link.parameters)} if link.parameters else {}
    return told | ({"requestBody": link.body} if link.body else {})
