"""Check answers against the OpenAPI document of the worker that gave them."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

Json = dict[str, Any]
PROBLEM_JSON = "application/problem+json"


def closed(document: Json) -> Json:
    """Return the document with answers that have no field and no problem type but those it names.

    The document leaves them open, so that a later version may add some; a test is to find those
    that are not documented.
    """
    document = {**document, "paths": deepcopy(document["paths"])}
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if problem := response.get("content", {}).get(PROBLEM_JSON):
                    problem["schema"] = _only_as_in_examples(document, int(status), problem)
    schemas = dict(document["components"]["schemas"])
    for path in document["paths"].values():
        for operation in path.values():
            for name in _referred(document, operation["responses"]):
                schemas[name] = {"additionalProperties": False, **schemas[name]}
    return {**document, "components": {**document["components"], "schemas": schemas}}


def _only_as_in_examples(document: Json, status: int, problem: Json) -> Json:
    examples = document["components"]["examples"]
    types = [examples[slug]["value"]["type"] for slug in problem["examples"]]
    own = {"properties": {"type": {"enum": types}, "status": {"const": status}}}
    return {"allOf": [problem["schema"], own]}


def _referred(document: Json, part: Any) -> Iterator[str]:
    """Yield the names of the schemas that a part of the document refers to."""
    for name in re.findall("#/components/schemas/([A-Za-z]+)", str(part)):
        yield name
        yield from _referred(document, document["components"]["schemas"][name])


class Document:
    """One worker's OpenAPI document; its schemas are compiled on first use."""

    def __init__(self, document: Json) -> None:
        self._document = document = closed(document)
        # A path without parameters goes before one with some: `/orders/admin` is not an id.
        paths = sorted(document["paths"], key=lambda path: path.count("{"))
        self._paths = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), path) for path in paths]
        self._validator = cache(self._compile)

    def hold(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: Any
    ) -> None:
        """Fail if the answer is not documented; undeclared operations are exempt."""
        template = self._template(path)
        operation = self._document["paths"].get(template, {}).get(method.lower())
        if operation is None:
            return
        asked = f"{operation['operationId']} answered {status}"
        response = operation["responses"].get(str(status))
        assert response, f"{asked}, which is not documented: {body}"
        for name, header in response["headers"].items():
            assert name in headers or not self._is_required(header), f"{asked} without {name}"
        if "content" not in response:
            assert not body, f"{asked} with a body, which is not documented"
            return
        media = headers["Content-Type"].split(";")[0]
        assert media in response["content"], f"{asked} as {media}, which is not documented"
        if media.endswith("json"):
            validator = self._validator(template, method.lower(), str(status), media)
            errors = [
                f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)
            ]
            assert not errors, f"{asked}, not as its schema says: {errors} in {body}"

    def _template(self, path: str) -> str | None:
        path = re.split("[?#]", path)[0]
        return next((name for pattern, name in self._paths if pattern.fullmatch(path)), None)

    def _compile(self, path: str, method: str, status: str, media: str) -> Draft202012Validator:
        response = self._document["paths"][path][method]["responses"][status]
        schema = response["content"][media]["schema"]
        return Draft202012Validator(
            {**schema, "components": self._document["components"]},
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        )

    def _is_required(self, header: Json) -> bool:
        name = header["$ref"].rpartition("/")[2]
        return bool(self._document["components"]["headers"][name].get("required"))
