"""`python -m bench.document`: write the figures of a run and charts into the documentation.

Everything between a section's two markers is replaced; the rest of a page is left alone.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from bench.figures import Json
from bench.pages import OF_SITES, SECTIONS
from bench.pictures import pictures

PAGES = (Path("README.md"), Path("docs/performance.md"))
FIGURES = Path("docs/performance")
KEPT = FIGURES / "figures.json"


def fill(page: str, report: Json) -> str:
    """Return the page with each section of the report in its place."""
    for name, section in SECTIONS.items():
        if report.get(name) or name in OF_SITES:
            page = _replaced(page, name, section(report))
    return page


def _thinned(figures: Any, name: str = "") -> Any:
    """Return the figures without the curves that no chart shows."""
    if isinstance(figures, dict):
        wanted = {key for key in figures if key != "curve" or name == "payToCompleted"}
        return {key: _thinned(figures[key], key) for key in figures if key in wanted}
    return [_thinned(one) for one in figures] if isinstance(figures, list) else figures


def _text(figures: Json) -> str:
    """Return the figures as JSON, each list or curve of numbers in one line."""
    spread = json.dumps(figures, indent=1) + "\n"
    return re.sub(r"\[[-\d.,e\s\[\]]+\]", lambda numbers: "".join(numbers[0].split()), spread)


def _check(report: Json) -> None:
    """Raise SystemExit if the report lacks figures that the pages need."""
    measured = {site["workers"] for site in report["sites"]}
    if not {1, 2} <= measured:
        raise SystemExit(f"the pages tell of 1 and 2 workers; the report has {sorted(measured)}")


def _replaced(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def main(arguments: list[str]) -> int:
    """Take reports (JSON) of `make bench`, `make bench-scale` and `make profile`.

    Figures that they lack stay as they are.
    """
    report: Json = json.loads(KEPT.read_text())
    for file in arguments:
        told = json.loads(Path(file).read_text())
        report |= {name: figures for name, figures in told.items() if figures}
    _check(report)
    KEPT.write_text(_text(_thinned(report)))
    for name, drawing in pictures(report).items():
        (FIGURES / name).write_text(drawing)
    for page in PAGES:
        page.write_text(fill(page.read_text(), report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
