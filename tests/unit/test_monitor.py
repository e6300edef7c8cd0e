"""Metrics that look up their labels once, and the lag that is told to administrators."""

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry, Counter

from app import monitor
from app.kafka.monitor import _Labelled
from web.monitor import lag


class Metric:
    """A Prometheus counter with its own registry, which counts look-ups of its labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.looked_up = 0
        self._counter = Counter(
            "messages", "Messages", ["topic", "partition"], registry=self.registry
        )

    def labels(self, **labels: Any) -> Any:
        self.looked_up += 1
        return self._counter.labels(**labels)

    def remove(self, *values: Any) -> None:
        self._counter.remove(*values)

    def collect(self) -> Any:
        return self._counter.collect()

    def value(self, topic: str, partition: str) -> float | None:
        """Return the value that Prometheus reads, or None if there is none."""
        labels = {"topic": topic, "partition": partition}
        return self.registry.get_sample_value("messages_total", labels)


@pytest.fixture
def metric() -> Metric:
    return Metric()


def told(labelled: _Labelled) -> dict[tuple[str, ...], float]:
    """Return the collected totals by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in labelled.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_the_same_labels_are_looked_up_once(metric: Metric) -> None:
    labelled = _Labelled(metric)
    first = labelled.labels(topic="order.paid", partition=0)
    assert labelled.labels(topic="order.paid", partition=0) is first
    assert metric.looked_up == 1


def test_other_labels_are_another_metric(metric: Metric) -> None:
    labelled = _Labelled(metric)
    labelled.labels(topic="order.paid", partition=0).inc()
    labelled.labels(topic="order.paid", partition=1).inc(2)
    labelled.labels(topic="order.paid", partition=0).inc()
    assert told(labelled) == {("order.paid", "0"): 2, ("order.paid", "1"): 2}
    assert metric.value("order.paid", "1") == 2


def test_what_was_removed_is_told_no_more_until_it_counts_anew(metric: Metric) -> None:
    labelled = _Labelled(metric)
    before = labelled.labels(topic="order.paid", partition=0)
    before.inc(5)
    labelled.labels(topic="order.paid", partition=1).inc()
    labelled.remove("order.paid", 0)
    assert told(labelled) == {("order.paid", "1"): 1}
    after = labelled.labels(topic="order.paid", partition=0)
    assert after is not before
    after.inc()
    labelled.labels(topic="order.paid", partition=1).inc()
    assert told(labelled) == {("order.paid", "0"): 1, ("order.paid", "1"): 2}


def test_lag_counts_from_what_the_group_committed_before_this_worker_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken_over, new, committed_here = (TP("order.paid", partition) for partition in range(3))
    known = {taken_over: 90, new: None, committed_here: 90}
    worker = SimpleNamespace(
        consumer=SimpleNamespace(_committed_offset=known),
        assignor=SimpleNamespace(assigned_actives=known.keys),
    )
    monkeypatch.setattr("web.monitor.app", worker)
    monkeypatch.setattr(monitor, "tp_end_offsets", dict.fromkeys(known, 100))
    monkeypatch.setattr(monitor, "tp_committed_offsets", {committed_here: 95})
    assert [(row["committed"], row["lag"]) for row in lag()] == [(90, 10), (0, 100), (95, 5)]
