"""The alerts that operators are given."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from agents import checkout, inventory, notification, order_status, payment
from app import app, metrics
from app.topics import topic_names

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load(Path("docs/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
MANUAL = Path("docs/operations.md").read_text()
OF_PROMETHEUS = {"up", "process_start_time_seconds"}
LABELS_OF_PROMETHEUS = {"job", "instance"}
OF_HANDLERS = ("orders_dead_letters_total", "orders_retries_total")
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


def test_a_counter_whose_rise_is_an_alert_is_shown_before_it_rises() -> None:
    assert checkout and inventory and notification and order_status and payment
    shown = {
        **{name: [{"handler": handler} for handler in app.agents] for name in OF_HANDLERS},
        "orders_refused_events_total": [{"topic": topic} for topic in topic_names()],
        "orders_webhooks_total": [{"outcome": outcome} for outcome in ("missed", "refused")],
        "orders_cache_total": [{"kind": "redis", "outcome": "away"}],
    }
    expressions = " ".join(rule["expr"] for rule in RULES)
    assert shown.keys() == set(re.findall(r"increase\((orders\w+)", expressions))
    for name, kinds in shown.items():
        for labels in kinds:
            assert REGISTRY.get_sample_value(name, labels) is not None, (name, labels)


def samples() -> set[str]:
    """The names of all samples, also of metrics that have no labels yet."""
    return {name for names in REGISTRY._collector_to_names.values() for name in names}


def labels_of(names: set[str]) -> set[str]:
    """The labels of the metrics that these samples are of."""
    metrics = {REGISTRY._names_to_collectors.get(name) for name in names}
    return {label for metric in metrics for label in getattr(metric, "_labelnames", ())}
