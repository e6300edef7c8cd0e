"""Distributions: percentiles of latencies, and throughput by second."""

from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Any

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
STEPS = 100
"""How many points of a distribution's curve are kept."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of all values does not exceed (nearest rank)."""
    return ordered[max(0, ceil(len(ordered) * share) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, Any]:
    """Return percentiles in milliseconds, and the curve as [share, ms], denser towards the end."""
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0}
    told = {name: _ms(percentile(ordered, share)) for name, share in PERCENTILES.items()}
    return {
        "count": len(ordered),
        "mean": _ms(sum(ordered) / len(ordered)),
        **told,
        "max": _ms(ordered[-1]),
        "curve": [[share, _ms(percentile(ordered, share))] for share in _shares(len(ordered))],
    }


def _shares(count: int) -> list[float]:
    """Return the curve's shares, evenly spaced in nines, as far as `count` values resolve."""
    found = [1 - 10 ** (-4 * step / STEPS) for step in range(STEPS + 1)]
    return [round(share, 6) for share in found if (1 - share) * count >= 1]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def rates(moments: Sequence[float], begin: float, seconds: float) -> dict[str, Any]:
    """Return the rate over `seconds` from `begin`, and its spread over single seconds."""
    inside = [moment - begin for moment in moments if 0 <= moment - begin < seconds]
    by_second = Counter(int(moment) for moment in inside)
    ordered = sorted(by_second[second] for second in range(int(seconds)))
    return {
        "perSecond": round(len(inside) / seconds, 2),
        "count": len(inside),
        "seconds": seconds,
        "slowestSecond": ordered[0] if ordered else None,
        "median": percentile(ordered, 0.5) if ordered else None,
        "fastestSecond": ordered[-1] if ordered else None,
    }
