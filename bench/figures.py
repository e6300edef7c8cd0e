"""The result of a window, as an object for the JSON report."""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.costs import spent
from bench.spread import latencies, rates
from bench.visits import Shop, Visit
from bench.window import Window

Json = dict[str, Any]


def workers_text(count: int) -> str:
    """Return the number of workers in words."""
    return "1 worker" if count == 1 else f"{count} workers"


def lifecycles(shop: Shop, window: Window, told: Mapping[bytes, float]) -> Json:
    """Return the figures of whole lifecycles: throughput, latencies, costs, and failures.

    Latencies are of the orders whose payment was due inside the window, however late they ended.
    """
    due = [visit for visit in shop.visits if window.holds(visit.pay_due) and visit.order_id]
    completed = _rates((visit.completed for visit in shop.visits), window)
    ended = [visit for visit in due if visit.completed]
    return {
        "created": _rates((visit.placed for visit in shop.visits), window),
        "completed": completed,
        "notified": _rates(told.values(), window),
        "latencyMs": {
            "create": _create(shop.visits, window),
            "pay": latencies([v.paid - v.pay_due for v in due if v.paid]),
            "payToCompleted": latencies([v.completed - v.pay_due for v in ended]),
            "payToNotified": latencies(
                [told[v.order_id] - v.pay_due for v in ended if v.order_id in told]
            ),
        },
        "unfinished": sum(1 for v in shop.visits if v.paid and not v.completed),
        "notTold": sum(1 for v in ended if v.order_id not in told),
        **_rest(shop, window, completed["count"]),
    }


def creations(shop: Shop, window: Window) -> Json:
    """Return the figures of creations alone."""
    created = _rates((visit.placed for visit in shop.visits), window)
    return {
        "created": created,
        "latencyMs": {"create": _create(shop.visits, window)},
        **_rest(shop, window, created["count"]),
    }


def _create(visits: Iterable[Visit], window: Window) -> Json:
    return latencies(
        [v.placed - v.place_due for v in visits if v.placed and window.holds(v.place_due)]
    )


def _rates(moments: Iterable[float], window: Window) -> Json:
    return rates(list(moments), window.begin, window.end - window.begin)


def _rest(shop: Shop, window: Window, orders: int) -> Json:
    inside = [v for v in shop.visits if window.holds(v.place_due)]
    return {
        "placed": sum(1 for visit in shop.visits if visit.placed),
        "troubles": dict(shop.troubles),
        "costs": spent(window.before, window.after, orders),
        "load": {"lateMs": latencies([v.sent - v.place_due for v in inside if v.sent])},
    }
