"""The charts of a report."""

from math import log10

from bench.charts import Axis, axis_for, bars, lines
from bench.figures import Json, workers_text
from bench.turns import cpu as cpu_of
from bench.turns import per_second, typical


class _Nines(Axis):
    """Latency percentiles on a scale of nines: 90 % at 1, 99 % at 2."""

    def ticks(self) -> list[float]:
        return [0.0, 1.0, 2.0, 3.0, 4.0]


def pictures(report: Json) -> dict[str, str]:
    """Return the charts by file name."""
    drawn = {"throughput.svg": throughput(report), "cpu.svg": cpu(report)}
    drawn["latency.svg"] = latency(report["sites"][0])
    if "soak" in report:
        drawn["memory.svg"] = memory(report)
    return drawn


def memory(report: Json) -> str:
    """A worker's memory over many orders."""
    points = [(float(orders), mib) for orders, mib in report["soak"]["memory"]]
    x = axis_for("orders carried", [orders for orders, _ in points])
    y = axis_for("MiB", [mib for _, mib in points])
    return lines("Memory of one worker", {"worker": points}, x, y)


def throughput(report: Json) -> str:
    """Creations and lifecycles per second by workers, beside the limit."""
    groups = {
        workers_text(site["workers"]): {
            "orders created": site["create"]["created"]["perSecond"],
            "full lifecycles": site["most"]["notified"]["perSecond"],
        }
        for site in report["sites"]
    }
    turns = report["sites"][0]["limit"]["turns"]
    groups["the limit"] = {"full lifecycles": typical(turns, "the limit", per_second)}
    return bars("Throughput", groups, "per second")


def cpu(report: Json) -> str:
    """CPU of each program per lifecycle, one worker's and the limit's, side by side."""
    turns = report["sites"][0]["limit"]["turns"]
    groups = {
        program: {name: typical(turns, name, cpu_of(program)) for name in ("ours", "the limit")}
        for program in ("worker", "postgres", "kafka")
    }
    return bars("CPU of one order, from creation to notification", groups, "milliseconds")


def latency(site: Json) -> str:
    """Latency from pay to COMPLETED by load, on a scale of nines."""
    series = {
        f"at {share} %": [
            (_nines(part), ms) for part, ms in paced["latencyMs"]["payToCompleted"]["curve"]
        ]
        for share, paced in site["paced"].items()
    }
    y = axis_for("milliseconds", [ms for points in series.values() for _, ms in points], True)
    x = _Nines("nines: 1 is 90 % of the orders, 2 is 99 %, 3 is 99.9 %", 0.0, 4.0)
    return lines(f"pay → COMPLETED, {workers_text(site['workers'])}", series, x, y)


def _nines(share: float) -> float:
    return -log10(1 - share) if share < 1 else 4.0
