"""The events that each handler has handled: the first check against redelivery.

A mark is written strictly after the commit, so a mark proves that the effect is committed. A crash
between the two leaves no mark; PostgreSQL's constraints and the order's state then decide.
"""

from collections.abc import Iterable

from tables.table import table

handled = table("handled", "events that were handled, by handler and event id")


def is_marked(handler: str, partition: int, event_id: str) -> bool:
    """Return whether `handler` has handled the event, which came from `partition`."""
    return handled.holds(partition, f"{handler}/{event_id}")


def mark(handler: str, events: Iterable[tuple[int, str]]) -> None:
    """Record that the effects of the events, given as (partition, event id), are committed."""
    handled.put((partition, f"{handler}/{event_id}", 1) for partition, event_id in events)
