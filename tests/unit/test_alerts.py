"""The alerts that operators are given."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from app import metrics

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load(Path("docs/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
MANUAL = Path("docs/operations.md").read_text()
OF_PROMETHEUS = {"up", "process_start_time_seconds"}
LABELS_OF_PROMETHEUS = {"job", "instance"}
FUNCTIONS = {"absent", "by", "changes", "increase", "max", "min", "sum", "time"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_metrics_that_there_are_and_stands_in_the_manual(
    rule: dict[str, Any],
) -> None:
    assert metrics.DEAD_LETTERS, "registered when they are imported"
    without_values = re.sub(r'"[^"]*"|\[\w+\]', "", rule["expr"])
    named = set(re.findall(r"\b[a-z_]+\b", without_values)) - FUNCTIONS
    asked = named & {*samples(), *OF_PROMETHEUS}
    assert asked and named - asked <= LABELS_OF_PROMETHEUS | labels_of(asked)
    assert rule["alert"] in MANUAL, "docs/operations.md does not name it"
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def samples() -> set[str]:
    """The names of all samples, also of metrics that have no labels yet."""
    return {name for names in REGISTRY._collector_to_names.values() for name in names}


def labels_of(names: set[str]) -> set[str]:
    """The labels of the metrics that these samples are of."""
    metrics = {REGISTRY._names_to_collectors.get(name) for name in names}
    return {label for metric in metrics for label in getattr(metric, "_labelnames", ())}
