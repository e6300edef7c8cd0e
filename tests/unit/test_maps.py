"""The maps of events in the documents show what the agents read."""

import re
from collections import Counter
from pathlib import Path

from app import app, topics
from app.handlers import HANDLERS

DOCS = Path(__file__).parents[2] / "docs"
ARROW = re.compile(r"-\. ([a-z]+\.[a-z_]+) \.-> (\w+)")


def test_the_architecture_has_an_arrow_to_each_agent() -> None:
    app.discover()
    arrows = set(ARROW.findall((DOCS / "architecture.md").read_text()))
    read = Counter(one.record.topic_name for one in HANDLERS.values() if one.record)
    assert Counter(topic for topic, _ in arrows) == read


def test_the_map_beside_the_records_names_each_event() -> None:
    assert topics.__doc__
    named = set(re.findall(r"[a-z]+\.[a-z_]+", topics.__doc__))
    assert {event.topic_name for event in topics.EVENTS} <= named
