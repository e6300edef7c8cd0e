"""Stripe's form encoding: `line_items[0][price_data][currency]=pln`."""

import re
from typing import Any
from urllib.parse import parse_qsl


def parse(body: str) -> dict[str, Any]:
    """Return the nested parameters; lists are dicts by index, see `as_list`."""
    parameters: dict[str, Any] = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        path = [part for part in re.split(r"[\[\]]+", name) if part]
        place = parameters
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return parameters


def as_list(value: dict[str, Any] | None) -> list[Any]:
    """Return `{"0": a, "1": b}` as `[a, b]`."""
    return [item for _, item in sorted((value or {}).items(), key=lambda pair: int(pair[0]))]
