"""Faust's Prometheus monitor with cached labels, since it runs several times for each message."""

from http import HTTPStatus
from typing import Any, cast

from faust.sensors.prometheus import FaustMetrics, PrometheusMonitor
from prometheus_client import REGISTRY


class _Labelled:
    """A labelled metric that caches the child of each combination of labels."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._children: dict[tuple[Any, ...], Any] = {}

    def labels(self, **labels: Any) -> Any:
        """Return the child for these labels, which must always be given in the same order."""
        values = tuple(labels.values())
        if (child := self._children.get(values)) is None:
            child = self._children[values] = self._metric.labels(**labels)
        return child

    def remove(self, *values: Any) -> None:
        """Remove the child for these labels, as when their partition was revoked."""
        self._children.clear()
        self._metric.remove(*values)

    def collect(self) -> Any:
        """Return the metric's samples."""
        return self._metric.collect()


class Monitor(PrometheusMonitor):
    """Faust's monitor, told of answers by the web server's own middleware."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._stream_labels: dict[Any, str] = {}

    def on_web_request_start(self, app: Any, request: Any, *, view: Any = None) -> dict[str, Any]:
        """Do nothing: `answered` counts."""
        return {}

    def on_web_request_end(
        self, app: Any, request: Any, response: Any, state: Any, *, view: Any = None
    ) -> None:
        """Do nothing: Faust would count each exception of a view as 500, whatever it stands for."""

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer of the web server, and how long it took."""
        self.http_response_codes[HTTPStatus(status)] += 1
        self.http_response_latency.append(seconds)
        self._metrics.http_status_codes.labels(status_code=status).inc()
        self._metrics.http_latency.observe(seconds * 1000)

    def _stream_label(self, stream: Any) -> str:
        """Return the stream's label, cached, as Faust derives it with regular expressions."""
        if (label := self._stream_labels.get(stream)) is None:
            label = self._stream_labels[stream] = super()._stream_label(stream)
        return label


def new_monitor() -> Monitor:
    """Create the monitor; its metrics are named `faust_…`."""
    metrics = FaustMetrics.create(REGISTRY, "faust")
    cheap = (_Labelled(one) if one._labelnames else one for one in cast(Any, metrics))
    metrics = FaustMetrics(*cast(Any, cheap))
    for status in (500, 503):
        # Shown as 0 from the start, so that an alert sees the first rise.
        metrics.http_status_codes.labels(status_code=status)
    return Monitor(metrics=metrics)
