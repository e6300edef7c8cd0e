"""The form of every refusal (RFC 9457)."""

from typing import Any

from tests.acceptance.client import Answer

TYPES = "https://order-service/problems/"

NOT_AMOUNTS = [
    "10.001",
    "-1",
    "-0.01",
    "1e20",
    "1e400",
    "10000000000000",
    "9999999999999.991",
    "10.000000000000000001",
    '"5"',
    "true",
    "[]",
    "{}",
]
"""JSON that is not an amount of money."""

NOT_JSON_NUMBERS = ["NaN", "Infinity", "-Infinity", "1" * 5000, "1e99999999999999999999"]
"""What some parsers accept as a number, or fail on."""


def assert_problem(answer: Answer, status: int, detail: str | None = None) -> dict[str, Any]:
    """Assert that the answer is a problem of that status, and that detail if given; return it."""
    problem = answer.body
    assert answer.status == status, answer
    assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json", answer
    assert problem["type"].removeprefix(TYPES).replace("-", "").isalpha()
    assert problem["title"] and problem["detail"]
    assert problem["status"] == status
    assert problem["instance"].startswith("/")
    assert problem["requestId"] == answer.headers["X-Request-Id"], answer
    assert detail in (None, problem["detail"]), problem
    return dict(problem)


def slug(answer: Answer) -> str:
    """Return the answer's problem type."""
    return str(answer.body["type"]).removeprefix(TYPES)


def pointers(answer: Answer) -> set[str]:
    """Return the pointers of the fields that a refusal of bad input names."""
    assert_problem(answer, 400)
    assert all(error["detail"] for error in answer.body["errors"])
    return {error["pointer"] for error in answer.body["errors"]}
