"""Line and bar charts as SVG, readable in light and dark mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 44, 44
COLOURS = ("#2f6fb0", "#c8622d", "#3a8f5a", "#8a5aa8", "#7a7a7a")

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """An axis from 0 or, if logarithmic, from a power of ten."""

    title: str
    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return the position of a value, from 0 to 1."""
        if self.logarithmic:
            low, high = log10(self.low), log10(self.high)
            return (log10(max(value, self.low)) - low) / (high - low)
        return (value - self.low) / ((self.high - self.low) or 1)

    def ticks(self) -> list[float]:
        """Return round values along the axis."""
        if self.logarithmic:
            return [10.0**n for n in range(round(log10(self.low)), round(log10(self.high)) + 1)]
        step = 10 ** floor(log10((self.high - self.low) or 1))
        step = step / 2 if (self.high - self.low) / step < 3 else step
        return [n * step for n in range(ceil(self.low / step), floor(self.high / step) + 1)]


def axis_for(title: str, values: Sequence[float], logarithmic: bool = False) -> Axis:
    """Return an axis that holds all values."""
    most = max(values, default=1.0) or 1.0
    if not logarithmic:
        return Axis(title, 0.0, most * 1.05)
    least = min((value for value in values if value > 0), default=1.0)
    high = max(10.0 ** ceil(log10(most)), 10.0 ** (floor(log10(least)) + 1))
    return Axis(title, 10.0 ** floor(log10(least)), high, True)


def lines(title: str, series: Mapping[str, Sequence[Point]], x: Axis, y: Axis) -> str:
    """Draw one line for each series."""
    drawn = [_frame(title, y), *_ticks_below([(x.share(t), _text(t)) for t in x.ticks()])]
    drawn.append(_note(LEFT + _plot_width() / 2, HEIGHT - 6, x.title, "middle"))
    for number, points in enumerate(series.values()):
        path = " ".join(f"{_x(x.share(a)):.1f},{_y(y.share(b)):.1f}" for a, b in points)
        colour = COLOURS[number % len(COLOURS)]
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return _svg(title, [*drawn, *_legend(list(series))])


def bars(title: str, groups: Mapping[str, Mapping[str, float]], y_title: str) -> str:
    """Draw a group of bars for each name, with one bar for each series."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    y = axis_for(y_title, [value for group in groups.values() for value in group.values()])
    drawn, slot = [_frame(title, y)], 1 / max(1, len(groups))
    thick = _plot_width() * slot * 0.7 / max(1, len(names))
    for place, group in enumerate(groups.values()):
        for name, value in group.items():
            left = _x((place + 0.15) * slot) + names.index(name) * thick
            top, colour = _y(y.share(value)), COLOURS[names.index(name) % len(COLOURS)]
            size = f'width="{thick * 0.92:.1f}" height="{_y(0) - top:.1f}"'
            drawn.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{colour}"/>')
            drawn.append(_note(left + thick / 2, top - 4, _text(value), "middle"))
    labels = [((place + 0.5) * slot, name) for place, name in enumerate(groups)]
    return _svg(title, [*drawn, *_ticks_below(labels), *_legend(names if len(names) > 1 else [])])


def _frame(title: str, y: Axis) -> str:
    drawn = [_note(LEFT, 18, title, "start", weight="bold"), _note(LEFT, 36, y.title, "start")]
    for tick in y.ticks():
        height = _y(y.share(tick))
        line = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"'
        drawn.append(f'<line {line} stroke="#888" stroke-opacity="0.3"/>')
        drawn.append(_note(LEFT - 8, height + 4, _text(tick), "end"))
    return "\n".join(drawn)


def _ticks_below(labels: Sequence[tuple[float, str]]) -> list[str]:
    return [_note(_x(share), HEIGHT - BOTTOM + 16, text, "middle") for share, text in labels]


def _legend(names: Sequence[str]) -> list[str]:
    drawn = []
    for number, name in enumerate(names):
        left, colour = WIDTH - RIGHT - 150 * (len(names) - number), COLOURS[number % len(COLOURS)]
        drawn.append(f'<rect x="{left}" y="27" width="10" height="10" fill="{colour}"/>')
        drawn.append(_note(left + 14, 36, name, "start"))
    return drawn


def _note(x: float, y: float, text: str, anchor: str, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="#888"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _text(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _plot_width() -> int:
    return WIDTH - LEFT - RIGHT


def _x(share: float) -> float:
    return LEFT + share * _plot_width()


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _svg(title: str, drawn: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-size="12" '
    head += 'font-family="system-ui, sans-serif">'
    return "\n".join([head, f"<title>{escape(title)}</title>", *drawn, "</svg>", ""])
