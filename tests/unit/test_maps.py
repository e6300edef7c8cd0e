"""The documents name what is in the code, and the maps of events show what agents read."""

import re
from collections import Counter
from pathlib import Path

import pytest

from app import app, topics
from app.handlers import HANDLERS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = ("app", "agents", "tables", "web", "migrations", "devstack", "bench", "tests")
PATH = re.compile(rf"(?<![\w./])(?:{'|'.join(CODE)})/[\w./-]*\w")
MADE = "bench/results"
"""Where measurements are written, which is not in the repository."""
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


@pytest.mark.parametrize("page", ["reading", "extending", "architecture", "reliability"])
def test_the_names_in_the_guides_are_in_the_code(page: str) -> None:
    files = [
        file for end in ("py", "sql") for name in CODE for file in (ROOT / name).rglob(f"*.{end}")
    ]
    known = {word for file in files for word in re.findall(r"\w+", file.read_text().lower())}
    known |= {file.stem for file in files}
    told = re.findall(r"`([^`]+)`", (DOCS / f"{page}.md").read_text())
    names = {
        name for text in told for name in re.findall(r"(?<![…\w])\w+\b(?!\.sql)", text.lower())
    }
    assert {name for name in names if "_" in name} - known == set()


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *DOCS.rglob("*.md")], ids=lambda page: page.stem
)
def test_the_paths_in_the_documents_exist(page: Path) -> None:
    told = {path for path in PATH.findall(page.read_text()) if not path.startswith(MADE)}
    assert {path for path in told if not (ROOT / path).exists()} == set()
