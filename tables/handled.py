"""Which events have been handled, by handler: the first gate against redelivery.

A mark is written strictly after the commit, so a mark means that the effect is there. A crash
between the two leaves no mark; then PostgreSQL's constraints and states are the arbiter.
"""

from tables.options import table

handled = table("handled", "events that were handled, by handler and event id")


def is_marked(handler: str, event_id: str) -> bool:
    """Whether `handler` has handled the event. Asked while the event is current."""
    return f"{handler}/{event_id}" in handled


def mark(handler: str, event_id: str) -> None:
    """Note that the effect of the event is committed. Called while the event is current."""
    handled[f"{handler}/{event_id}"] = 1
