"""Hooks that tell Schemathesis what it cannot know of this service, and tally the answers."""

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import ObjectLevelAuthorizationViolation, RejectedPositiveData

from tests.acceptance.documented import closed

TALLY = "FUZZ_TALLY"
"""Names the environment variable with the tally's file: answers by operation and status."""

CENTS = "must have at most two decimals"
BEYOND_SCHEMAS: dict[str, str | tuple[str, ...]] = {
    "#/cursor": "is not a cursor of this list",
    "#/amount": ("differs between the query and the body", CENTS),
    "#/price": CENTS,
    "#/totalAmount": CENTS,
    "#/items": "the order's total is more than 9999999999999.99",
    "#/email": "value is not a valid email address",
}
"""How the refusal of a field begins where JSON Schema cannot express what is wrong.

A random cursor is invalid, as is one of another list; two amounts must agree; prices times
quantities may exceed what money can hold; a domain may be reserved (RFC 6761).
"""

_answers: list[tuple[str, int]] = []


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Let an answer have no field and no problem type that is not documented."""
    raw_schema |= closed(raw_schema)
    for path in raw_schema["paths"].values():
        for parameter in (one for operation in path.values() for one in operation["parameters"]):
            if parameter["name"] == "If-Match":
                parameter["schema"] = _with_a_constant(parameter["schema"], "*")


def _with_a_constant(schema: dict[str, Any], value: str) -> dict[str, Any]:
    """Return a schema with the same meaning, of which Schemathesis knows a value.

    Where a header's pattern asks for more than letters and digits, Schemathesis thinks 0 valid.
    """
    return {"type": schema["type"], "anyOf": [{"const": value}, {"pattern": schema["pattern"]}]}


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Count the answer if its method is the operation's own."""
    if response.request.method == case.operation.method.upper():
        _answers.append((case.operation.label, response.status_code))


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Return whether the failure is a real one."""
    if isinstance(failure, RejectedPositiveData) and response.status_code == 400:
        problem = response.json()
        return not (_is_unsigned(problem) or _is_beyond_schemas(problem))
    # The catalogue is public; orders belong to their owner.
    is_public = "products" in case.operation.tags
    return not (isinstance(failure, ObjectLevelAuthorizationViolation) and is_public)


def _is_unsigned(problem: dict[str, Any]) -> bool:
    """Return whether a signature is missing: only Stripe can sign what Stripe sends."""
    return str(problem["type"]).endswith("/bad-signature")


def _is_beyond_schemas(problem: dict[str, Any]) -> bool:
    errors = problem["errors"]
    return bool(errors) and all(
        error["detail"].startswith(BEYOND_SCHEMAS.get(error["pointer"], "\n")) for error in errors
    )


@atexit.register
def _write_tally() -> None:
    if path := os.environ.get(TALLY):
        tally = Counter(_answers)
        told = [[label, status, times] for (label, status), times in sorted(tally.items())]
        Path(path).write_text(json.dumps(told))
