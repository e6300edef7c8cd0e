"""The OpenAPI document covers everything that is served, and nothing else."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from faust.web.drivers.aiohttp import Web
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app import app
from app.errors import (
    BadSignature,
    MethodNotAllowed,
    Problem,
    every_problem,
)
from tests.acceptance.documented import closed
from web import openapi, openapi_headers
from web.http import origins
from web.http.problems import TYPES
from web.shapes.bodies import MONEY_SCHEMA

Json = dict[str, Any]
EXAMPLES = "#/components/examples/"

ANYWHERE: dict[type[Problem], str] = {
    Problem: "a bug, which no operation promises",
    MethodNotAllowed: "any address, asked with a method that it does not take",
    BadSignature: "Stripe's webhook, for as long as it is not served",
}
"""The problems that no operation declares, and when they are answered."""


@pytest.fixture(scope="module")
def document() -> Json:
    """The OpenAPI document that a worker serves."""
    app.discover()
    return openapi.document(cast(Web, app.web).views.items())


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield path, method and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def served() -> set[tuple[str, str]]:
    """Return every (path, method) that aiohttp routes; HEAD comes with GET."""
    return {
        (route.resource.canonical, route.method.lower())
        for route in cast(Web, app.web).web_app.router.routes()
        if route.resource and route.method not in ("HEAD", "OPTIONS")
    }


def problem_types(value: Any) -> Iterator[str]:
    """Yield the problem types of which a part of the document shows an example."""
    if isinstance(value, dict):
        for part in value.values():
            yield from problem_types(part)
    elif isinstance(value, list):
        for part in value:
            yield from problem_types(part)
    elif isinstance(value, str) and value.startswith(EXAMPLES):
        yield value.removeprefix(EXAMPLES)


def test_the_document_is_valid(document: Json) -> None:
    assert list(OpenAPIV31SpecValidator(cast(Any, document)).iter_errors()) == []


def test_every_route_is_in_the_document_with_every_method(document: Json) -> None:
    assert {(path, method) for path, method, _ in operations(document)} == served()


def test_every_operation_has_a_name_of_its_own(document: Json) -> None:
    names = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert [name for name, count in names.items() if count > 1] == []


def test_a_client_for_every_operation_can_be_generated(document: Json, tmp_path: Path) -> None:
    """A generator leaves out what it does not understand, and says so."""
    source, settings, client = (tmp_path / name for name in ("openapi.json", "settings", "client"))
    source.write_text(json.dumps(document))
    settings.write_text("post_hooks: []")  # it would format the client
    generate = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    options = [f"--path={source}", f"--config={settings}", f"--output-path={client}"]
    done = subprocess.run([*generate, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {file.stem.replace("_", "") for file in client.glob("*/api/*/[a-z]*.py")}
    assert made == {operation["operationId"].lower() for _, _, operation in operations(document)}


def test_every_link_leads_to_an_operation_with_those_parameters(document: Json) -> None:
    parameters = {
        operation["operationId"]: {parameter["name"] for parameter in operation["parameters"]}
        for _, _, operation in operations(document)
    }
    for _, _, operation in operations(document):
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                assert link.get("parameters", {}).keys() <= parameters[link["operationId"]]


def test_every_problem_is_promised_by_an_operation_or_may_come_from_any(document: Json) -> None:
    promised = set(problem_types(document["paths"]))
    catalogue = {problem.slug for problem in every_problem()}
    assert promised <= catalogue
    assert catalogue - promised <= {problem.slug for problem in ANYWHERE}


def test_every_problem_is_promised_under_its_own_status(document: Json) -> None:
    status = {problem.slug: problem.status for problem in every_problem()}
    for _, _, operation in operations(document):
        for code, response in operation["responses"].items():
            assert {status[slug] for slug in problem_types(response)} <= {int(code)}


def test_every_example_is_a_problem_of_its_type(document: Json) -> None:
    shape = Draft202012Validator(
        {
            "$ref": "#/components/schemas/ProblemDetails",
            "components": closed(document)["components"],
        }
    )
    problems = {problem.slug: problem for problem in every_problem()}
    for slug, example in document["components"]["examples"].items():
        shape.validate(example["value"])
        assert example["value"]["type"] == TYPES + slug
        assert example["value"]["status"] == problems[slug].status


def test_every_operation_says_what_it_is_for(document: Json) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"] and operation["tags"], (path, method)
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


def test_who_may_call_an_operation_is_told_as_its_refusals_are(document: Json) -> None:
    for path, method, operation in operations(document):
        needs_token = bool(operation["security"])
        assert needs_token == ("unauthorized" in problem_types(operation)), (path, method)


def test_an_answer_may_get_another_field_in_a_later_version(document: Json) -> None:
    assert sum(map(is_closed, closed(document)["components"]["schemas"].values())) > 20
    closed_now = [n for n, one in document["components"]["schemas"].items() if is_closed(one)]
    assert set(closed_now) == {"Cancel", "Pay", "ProductChanges"}, "bodies of optional fields"


def is_closed(schema: Json) -> bool:
    """Return whether the schema allows no field but its own."""
    return schema.get("additionalProperties") is False


def test_every_operation_takes_the_id_of_a_request_and_of_its_trace(document: Json) -> None:
    for path, method, operation in operations(document):
        optional = {
            one["name"]
            for one in operation["parameters"]
            if one["in"] == "header" and not one.get("required")
        }
        assert optional >= {"X-Request-Id", "traceparent"}, (path, method)


def test_what_a_client_may_have_already_tells_its_tag(document: Json) -> None:
    asked = [
        operation
        for _, _, operation in operations(document)
        if any(one["name"] == "If-None-Match" for one in operation["parameters"])
    ]
    assert {operation["operationId"] for operation in asked} == {"getOrder", "getAsset"}
    for operation in asked:
        for status in ("200", "304"):  # RFC 9110, 15.4.5
            assert "ETag" in operation["responses"][status]["headers"], operation["operationId"]


def test_pages_of_other_origins_may_send_and_read_every_documented_header(document: Json) -> None:
    parameters = [
        one for _, _, operation in operations(document) for one in operation["parameters"]
    ]
    sent = {one["name"].lower() for one in parameters if one["in"] == "header"}
    # Stripe's servers send webhooks; no page can sign one.
    assert sent - {"stripe-signature"} <= set(origins.ALLOWED_HEADERS)
    assert {name.lower() for name in document["components"]["headers"]} <= set(
        origins.EXPOSED_HEADERS
    )


@pytest.mark.parametrize("key", ["k", "a b", "!", '" "', '"a"', '"a"b"', "k" * 255])
def test_every_idempotency_key_that_is_taken_is_documented(key: str) -> None:
    assert re.search(openapi.IDEMPOTENCY_KEY["schema"]["pattern"], key)


@pytest.mark.parametrize("key", ["", '""', '"', 'a"', "\u017c", " k", "k ", "k" * 256])
def test_no_idempotency_key_is_documented_that_is_refused(key: str) -> None:
    assert not re.search(openapi.IDEMPOTENCY_KEY["schema"]["pattern"], key)


@pytest.mark.parametrize("header", ["*", '"1"', 'W/"1"', '"7", "1"', ', "7",,"1" ,', '""'])
def test_every_if_match_that_is_taken_is_documented(header: str) -> None:
    assert Draft202012Validator(openapi_headers.IF_MATCH["schema"]).is_valid(header)


@pytest.mark.parametrize("header", ["", "1", "'1'", "word", '"1', '"1" "2"', '*, "1"', '"\u017c"'])
def test_no_if_match_is_documented_that_is_refused(header: str) -> None:
    assert not Draft202012Validator(openapi_headers.IF_MATCH["schema"]).is_valid(header)


def test_every_amount_of_money_is_valid_by_its_schema() -> None:
    """Validators divide floats: 0.07 is no multiple of 0.01 to them."""
    validator = Draft202012Validator(MONEY_SCHEMA)
    assert all(validator.is_valid(cents / 100) for cents in range(10_000))
    assert not validator.is_valid(-0.01)
