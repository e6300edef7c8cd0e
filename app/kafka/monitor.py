"""Faust's monitor for Prometheus, cheap enough to be asked several times for each message."""

from typing import Any, cast

from faust.sensors.prometheus import FaustMetrics, PrometheusMonitor
from prometheus_client import REGISTRY


class _Labelled:
    """A metric with labels that looks each combination of them up once."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._children: dict[tuple[Any, ...], Any] = {}

    def labels(self, **labels: Any) -> Any:
        """The metric of these labels, which are always named in the same order."""
        values = tuple(labels.values())
        if (child := self._children.get(values)) is None:
            child = self._children[values] = self._metric.labels(**labels)
        return child

    def remove(self, *values: Any) -> None:
        """Forget the metric of these labels: their partition went elsewhere."""
        self._children.clear()
        self._metric.remove(*values)

    def collect(self) -> Any:
        """What there is to tell."""
        return self._metric.collect()


class _Monitor(PrometheusMonitor):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._stream_labels: dict[Any, str] = {}

    def _stream_label(self, stream: Any) -> str:
        """Made once, of what regular expressions leave of the stream's name."""
        if (label := self._stream_labels.get(stream)) is None:
            label = self._stream_labels[stream] = super()._stream_label(stream)
        return label


def new_monitor() -> PrometheusMonitor:
    """The monitor; its metrics are `faust_…`."""
    metrics = FaustMetrics.create(REGISTRY, "faust")
    cheap = (_Labelled(one) if one._labelnames else one for one in cast(Any, metrics))
    return _Monitor(metrics=FaustMetrics(*cast(Any, cheap)))
