"""What Prometheus is told of Faust's counts, and the lag that is told to administrators."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from app import app, monitor
from app.kafka.monitor import Monitor, new_monitor
from web.monitor import lag

PAID, REPEATED = TP("order.paid", 3), 2


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counting(registry: CollectorRegistry) -> Monitor:
    """A monitor of its own, which tells `registry`."""
    return new_monitor(registry)


def count(counting: Monitor, offset: int) -> None:
    """Count a message of order.paid, an event of it, a mark, an answer and a commit."""
    stream = app.topic("order.paid").stream()
    stream.task_owner = Mock()
    counting.on_message_in(PAID, offset, Mock())
    counting.on_stream_event_in(PAID, offset, stream, Mock())
    counting.count_updates(Mock(), 1)
    counting.answered(404, 0.5)
    counting.track_tp_end_offset(PAID, offset + 10)
    counting.on_tp_commit({PAID: offset + 1})


COUNTED: dict[str, tuple[dict[str, str], float]] = {
    "faust_messages_received_total": ({}, 2),
    "faust_active_messages": ({}, 2),
    "faust_total_events_total": ({}, 2),
    "faust_total_active_events": ({}, 2),
    "faust_messages_received_per_topic_total": ({"topic": "order.paid"}, 2),
    "faust_http_status_codes_total": ({"status_code": "404"}, 2),
    "faust_messages_received_per_topics_partition": ({"topic": "order.paid", "partition": "3"}, 8),
    "faust_topic_partition_end_offset": ({"topic": "order.paid", "partition": "3"}, 18),
    "faust_topic_partition_offset_commited": ({"topic": "order.paid", "partition": "3"}, 9),
}


@pytest.mark.parametrize("name", COUNTED)
def test_prometheus_is_told_what_was_counted(
    counting: Monitor, registry: CollectorRegistry, name: str
) -> None:
    count(counting, 7)
    counting.publish()
    count(counting, 8)
    labels, value = COUNTED[name]
    for _ in range(REPEATED):
        counting.publish()
        assert registry.get_sample_value(name, labels) == value


@pytest.mark.parametrize("name", ["faust_total_events_per_stream", "faust_table_operations"])
def test_prometheus_is_told_of_streams_and_tables(
    counting: Monitor, registry: CollectorRegistry, name: str
) -> None:
    count(counting, 7)
    counting.publish()
    told = [
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == f"{name}_total"
    ]
    assert told == [1]


def test_what_is_done_is_active_no_more(counting: Monitor, registry: CollectorRegistry) -> None:
    count(counting, 7)
    counting.on_stream_event_out(PAID, 7, Mock(), Mock())
    counting.on_message_out(PAID, 7, Mock(time_in=0))
    counting.publish()
    assert registry.get_sample_value("faust_total_active_events") == 0
    assert registry.get_sample_value("faust_active_messages") == 0
    assert registry.get_sample_value("faust_total_events_total") == 1


def test_partitions_that_were_revoked_are_told_no_more(
    counting: Monitor, registry: CollectorRegistry
) -> None:
    count(counting, 7)
    counting.publish()
    counting.on_rebalance_start(Mock())
    counting.publish()
    labels = {"topic": "order.paid", "partition": "3"}
    assert registry.get_sample_value("faust_topic_partition_end_offset", labels) is None
    assert registry.get_sample_value("faust_messages_received_total") == 1


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


def test_how_long_a_stream_was_read_is_no_latency(
    counting: Monitor, registry: CollectorRegistry
) -> None:
    counting.answered(200, 0.5)
    counting.answered(200, None)
    counting.publish()
    assert registry.get_sample_value("faust_http_status_codes_total", {"status_code": "200"}) == 2
    assert registry.get_sample_value("faust_http_latency_count") == 1
