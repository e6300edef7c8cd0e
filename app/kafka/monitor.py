"""Faust's monitor, which counts in plain numbers and passes them on when Prometheus asks.

Faust counts several times for each message, and each count of Prometheus looks up labels and takes
a lock.
"""

from collections import Counter
from http import HTTPStatus
from typing import Any

import faust
from faust.sensors.prometheus import FaustMetrics, PrometheusMonitor
from prometheus_client import REGISTRY, CollectorRegistry


class Monitor(PrometheusMonitor):
    """Faust's monitor; the web server's own middleware reports answers to it."""

    on_message_in = faust.Monitor.on_message_in
    on_message_out = faust.Monitor.on_message_out
    on_stream_event_in = faust.Monitor.on_stream_event_in
    on_tp_commit = faust.Monitor.on_tp_commit
    track_tp_end_offset = faust.Monitor.track_tp_end_offset

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._published: Counter[Any] = Counter()
        """What Prometheus has been told, by its counter and the labels."""
        self._stream_names: dict[str, str] = {}
        """The labels of all streams so far, by what Faust counts their events by."""

    def on_stream_event_out(self, *_: Any, **__: Any) -> None:
        """Count the event as done, also without the state that Faust's own streams keep of it."""
        self.events_active -= 1

    def count_updates(self, table: Any, count: int) -> None:
        """Count entries that were put into the table."""
        self._table_or_create(table).keys_updated += count

    def on_web_request_start(self, app: Any, request: Any, *, view: Any = None) -> dict[str, Any]:
        """Do nothing: `answered` counts."""
        return {}

    def on_web_request_end(
        self, app: Any, request: Any, response: Any, state: Any, *, view: Any = None
    ) -> None:
        """Do nothing: Faust would count each exception of a view as 500, whatever it stands for."""

    def answered(self, status: int, seconds: float | None) -> None:
        """Count an answer of the web server, and how long it took, if that says anything."""
        self.http_response_codes[HTTPStatus(status)] += 1
        if seconds is not None:
            self.http_response_latency.append(seconds)
            self._metrics.http_latency.observe(seconds * 1000)

    def publish(self) -> None:
        """Bring Prometheus's metrics up to date with what was counted."""
        metrics = self._metrics
        metrics.active_messages.set(self.messages_active)
        metrics.total_active_events.set(self.events_active)
        self._publish(metrics.messages_received, (), self.messages_received_total)
        self._publish(metrics.total_events, (), self.events_total)
        for topic, count in self.messages_received_by_topic.items():
            self._publish(metrics.messages_received_per_topics, (topic,), count)
        for stream, count in self._events_by_stream().items():
            self._publish(metrics.total_events_per_stream, (stream,), count)
        for name, table in self.tables.items():
            labels = f"table.{name}", self.KEYS_UPDATED
            self._publish(metrics.table_operations, labels, table.keys_updated)
        for status, count in self.http_response_codes.items():
            self._publish(metrics.http_status_codes, (status.value,), count)
        for gauge, offsets in (
            (metrics.messages_received_per_topics_partition, self.tp_read_offsets),
            (metrics.topic_partition_end_offset, self.tp_end_offsets),
            (metrics.topic_partition_offset_commited, self.tp_committed_offsets),
        ):
            for tp, offset in offsets.items():
                gauge.labels(tp.topic, tp.partition).set(offset)

    def _events_by_stream(self) -> Counter[str]:
        for stream, key in self.stream_lookup.items():
            self._stream_names.setdefault(key, self._stream_label(stream))
        told: Counter[str] = Counter()
        for key, name in self._stream_names.items():
            told[f"stream.{name}.events"] += self.events_by_stream[key]
        return told

    def _publish(self, counter: Any, labels: tuple[Any, ...], count: int) -> None:
        child = counter.labels(*labels) if labels else counter
        child.inc(count - self._published[counter, labels])
        self._published[counter, labels] = count


def new_monitor(registry: CollectorRegistry = REGISTRY) -> Monitor:
    """Create the monitor; its metrics are named `faust_…`."""
    metrics = FaustMetrics.create(registry, "faust")
    for status in (500, 503):
        # Shown as 0 from the start, so that an alert sees the first rise.
        metrics.http_status_codes.labels(status)
    return Monitor(metrics=metrics)
