"""The result of a demo run, as an object and as a table."""

from collections import Counter
from math import ceil

from rich.table import Table
from rich.text import Text

from bench.client import Json
from bench.shopping import Order

_PERCENTILES = {"p50": 0.50, "p99": 0.99, "max": 1.0}


def summary(orders: list[Order], seconds: float, retries: int) -> Json:
    """Return the result of all orders; latencies are in milliseconds, null if none completed."""
    ended: Counter[str] = Counter(order.status for order in orders)
    measured = [order for order in orders if not order.warms_up]
    took = sorted(order.latency_ms for order in measured if order.latency_ms is not None)
    rank = {name: ceil(len(took) * share) - 1 for name, share in _PERCENTILES.items()}
    return {
        "placed": sum(order.id != "" for order in orders),
        "refused": _reasons(orders, "REFUSED"),
        "completed": ended["COMPLETED"],
        "cancelled": _reasons(orders, "CANCELLED"),
        "unfinished": sum(ended[s] for s in ("UNANSWERED", "CREATED", "PAID")),
        "replays": sum(order.is_replayed for order in orders),
        "wrong": dict(Counter(order.wrong for order in orders if order.wrong)),
        "retries": retries,
        "measured": len(measured),
        "latencyMs": {name: took[n] if took else None for name, n in rank.items()},
        "seconds": round(seconds, 2),
        "ordersPerSecond": round(len(orders) / seconds, 1),
        "orders": [{"id": order.id, "status": order.status} for order in orders if order.id],
    }


def stock(orders: list[Order], before: list[Json], after: list[Json] | None) -> Json:
    """Return the total stock, and whether the completed orders explain the difference."""
    done = [order for order in orders if order.status == "COMPLETED"]
    sold = sum(item["quantity"] for order in done for item in order.items)
    had = sum(one["availableQuantity"] for one in before)
    left = None if after is None else sum(one["availableQuantity"] for one in after)
    agrees = None if left is None else had - left == sold
    return {"before": had, "after": left, "sold": sold, "agrees": agrees}


def table(report: Json) -> Table:
    """Return the same as a table."""
    pieces = report["stock"]
    latency = [f"{ms:.0f}" for ms in report["latencyMs"].values() if ms is not None]
    drawn = Table(show_header=False)
    for name, value in [
        ("placed", report["placed"]),
        *((f"refused: {reason}", count) for reason, count in report["refused"].items()),
        ("completed", report["completed"]),
        *((f"cancelled: {reason}", count) for reason, count in report["cancelled"].items()),
        ("not finished in time", report["unfinished"]),
        ("replays answered", report["replays"]),
        ("duplicates", report["duplicates"]),
        *((f"wrong: {answer}", count) for answer, count in report["wrong"].items()),
        ("requests sent again", report["retries"]),
        ("pay → COMPLETED, p50 / p99 / max", " / ".join(latency) + " ms" if latency else "–"),
        ("  measured on the last", f"{report['measured']} orders"),
        ("time", f"{report['seconds']} s: {report['ordersPerSecond']} orders/s"),
        ("pieces in stock before", pieces["before"]),
        ("pieces in stock after", pieces["after"]),
        ("pieces sold", _compared(**pieces)),
    ]:
        drawn.add_row(Text(name), Text("not known" if value is None else str(value)))
    return drawn


def _compared(before: int, after: int | None, sold: int, agrees: bool | None) -> str:
    if after is None:
        return f"{sold}"
    return f"{sold}: agrees" if agrees else f"{sold}: DIFFERS by {before - after - sold}"


def _reasons(orders: list[Order], status: str) -> dict[str, int]:
    return dict(Counter(str(order.reason) for order in orders if order.status == status))
