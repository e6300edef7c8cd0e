"""What every refusal looks like (RFC 9457)."""

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
"""What some parsers take for a number, or choke on."""


def assert_problem(answer: Answer, status: int, detail: str | None = None) -> dict[str, Any]:
    """The answer is a problem of this status, with this detail if one is given."""
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
    """Which type of problem the answer is."""
    return str(answer.body["type"]).removeprefix(TYPES)


def pointers(answer: Answer) -> set[str]:
    """Which fields a refusal of bad input names."""
    assert_problem(answer, 400)
    assert all(error["detail"] for error in answer.body["errors"])
    return {error["pointer"] for error in answer.body["errors"]}
