"""Tables of figures for the terminal."""

from rich.table import Table

from bench.figures import Json
from bench.turns import compared, per_second

PROGRAMS = ("worker", "postgres", "kafka", "redis", "load")


def quick_table(report: Json) -> Table:
    """Return the figures of a quick run, for tuning."""
    table = Table("", "closed loop, at capacity", "open loop, at half")
    both = (report["most"], report["half"])
    for name in ("created", "completed", "notified"):
        table.add_row(f"{name}/s", *(f"{one[name]['perSecond']:.1f}" for one in both))
    table.add_row("  slowest, fastest second", *(_extremes(one["notified"]) for one in both))
    for name in ("create", "pay", "payToCompleted", "payToNotified"):
        row = [_percentiles(one["latencyMs"][name]) for one in both]
        table.add_row(f"{name} ms: p50 / p99 / p99.9", *row)
    for name in PROGRAMS:
        row = [_cost(one["costs"][name]) for one in both]
        table.add_row(f"{name}: CPU ms per order; PSS MiB", *row)
    table.add_row("others: CPU seconds (should be 0)", *(_others(one) for one in both))
    table.add_row("load: late by p99 ms", *(_late(one) for one in both))
    for name in ("troubles", "unfinished", "notTold"):
        table.add_row(name, *(str(one[name] or "none") for one in both))
    return table


def _extremes(rate: Json) -> str:
    return f"{rate['slowestSecond']} / {rate['fastestSecond']}"


def _percentiles(latency: Json) -> str:
    if not latency["count"]:
        return "–"
    return " / ".join(f"{latency[name]:.1f}" for name in ("p50", "p99", "p99.9"))


def _cost(cost: Json) -> str:
    if cost["cpuMsPerOrder"] is None:
        return "–"
    return f"{cost['cpuMsPerOrder']:.2f}; {cost['pssMiB']:.0f}"


def _late(figures: Json) -> str:
    late = figures["load"]["lateMs"]
    return f"{late['p99']:.1f}" if late["count"] else "–"


def _others(figures: Json) -> str:
    return f"{figures['costs']['others']['cpuSeconds']:.1f}"


def full_table(report: Json) -> Table:
    """Return the headlines of a full run."""
    table = Table(
        *("workers", "created/s", "lifecycles/s", "p50 / p99 / p99.9 ms at half", "worker CPU"),
        "of the limit",
    )
    for site in report["sites"]:
        half = site["paced"]["50"]["latencyMs"]["payToCompleted"]
        table.add_row(
            str(site["workers"]),
            f"{site['create']['created']['perSecond']:.1f}",
            f"{site['most']['notified']['perSecond']:.1f}",
            _percentiles(half),
            _cost(site["most"]["costs"]["worker"]),
            f"{compared(site['limit']['turns'], 'ours', 'the limit', per_second):.2f}",
        )
    return table
