"""Which events have been handled, by handler: the first gate against redelivery.

A mark is written strictly after the commit, so a mark means that the effect is there. A crash
between the two leaves no mark; then PostgreSQL's constraints and states are the arbiter.
"""

from collections.abc import Iterable

from tables.table import table

handled = table("handled", "events that were handled, by handler and event id")


def is_marked(handler: str, partition: int, event_id: str) -> bool:
    """Whether `handler` has handled the event of this partition."""
    return handled.holds(partition, f"{handler}/{event_id}")


def mark(handler: str, events: Iterable[tuple[int, str]]) -> None:
    """Note that the effect of the events, by partition and id, is committed."""
    handled.put((partition, f"{handler}/{event_id}", 1) for partition, event_id in events)
