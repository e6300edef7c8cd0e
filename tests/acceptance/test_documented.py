"""The OpenAPI document matches what is served."""

import re
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.client import Api
from tests.acceptance.customer import Admin
from tests.acceptance.documented import Document
from tests.acceptance.problems import assert_problem

Json = dict[str, Any]


@pytest.fixture(scope="session")
async def document(api: Api) -> Json:
    """The OpenAPI document."""
    return dict((await api.ask("GET", "/openapi.json")).body)


def some(path: str) -> str:
    """Return the path with ids of things that do not exist."""
    return re.sub("{.*?}", str(uuid4()), path)


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND"])
async def test_a_method_that_is_not_documented_is_told_those_that_are(
    admin: Admin, document: Json, method: str
) -> None:
    for path, declared in document["paths"].items():
        answer = await admin.ask(method, some(path))
        assert_problem(answer, 405)
        allowed = {name.lower() for name in re.split(", *", answer.headers["Allow"])}
        expected = {*declared, "head"} if "get" in declared else set(declared)
        assert (path, allowed) == (path, expected)


async def test_there_is_a_head_only_where_there_is_a_get(admin: Admin, document: Json) -> None:
    for path, declared in document["paths"].items():
        if "get" not in declared:
            answer = await admin.ask("HEAD", some(path))
            assert (path, answer.status) == (path, 405)
            assert set(answer.headers["Allow"].lower().split(",")) == set(declared)


async def test_head_is_answered_like_get_without_the_body(admin: Admin, document: Json) -> None:
    for path in (some(path) for path, declared in document["paths"].items() if "get" in declared):
        head, get = await admin.ask("HEAD", path), await admin.ask("GET", path)
        assert (path, head.status, head.body) == (path, get.status, "")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]


def answer_of(document: Json, **change: Any) -> Json:
    """Return a correct answer of /livez with the given changes."""
    headers = {"Content-Type": "application/json", "X-Request-Id": "x"}
    usual = {"method": "GET", "path": "/livez", "status": 200, "headers": headers}
    return {**usual, "body": {"status": "ok"}, **change}


def test_an_answer_as_documented_is_held_to_be_one(document: Json) -> None:
    Document(document).hold(**answer_of(document))
    Document(document).hold(**answer_of(document, path="/livez?verbose", status=503))
    Document(document).hold(**answer_of(document, path="/nothing", status=404))


@pytest.mark.parametrize(
    "change",
    [
        {"status": 418},
        {"body": {"status": "well"}},
        {"body": {"status": "ok", "more": 1}},
        {"headers": {"Content-Type": "application/json"}},
        {"headers": {"Content-Type": "text/plain", "X-Request-Id": "x"}},
    ],
    ids=str,
)
def test_an_answer_that_is_not_documented_is_told_apart(document: Json, change: Json) -> None:
    with pytest.raises(AssertionError, match="livez answered"):
        Document(document).hold(**answer_of(document, **change))
