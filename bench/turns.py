"""Compare systems side by side, in turns, because the machine's speed varies."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.figures import Json

PROGRAMS = ("worker", "postgres", "kafka", "redis")
TURNS = 6

Turn = dict[str, Json]
"""What each system did in a turn: lifecycles a second, CPU milliseconds of each by program."""


def in_turns(measures: Mapping[str, Callable[[], Json]], tell: Callable[[str], None]) -> list[Turn]:
    """Measure each system once in each turn; every other turn begins with the last one."""
    turns = []
    for number in range(TURNS):
        tell(f"turn {number + 1} of {TURNS}: {' and '.join(measures)}")
        names = list(measures)[:: -1 if number % 2 else 1]
        turns.append({name: _brief(measures[name]()) for name in names})
    return turns


def compared(turns: Sequence[Turn], one: str, other: str, of: Callable[[Json], float]) -> float:
    """Return the median of `one` divided by `other`, turn by turn."""
    return median(of(turn[one]) / of(turn[other]) for turn in turns)


def typical(turns: Sequence[Turn], name: str, of: Callable[[Json], float]) -> float:
    """Return the median of a system's figure."""
    return median(of(turn[name]) for turn in turns)


def per_second(figures: Json) -> float:
    """Return a turn's lifecycles a second."""
    return float(figures["perSecond"])


def cpu(program: str) -> Callable[[Json], float]:
    """Return what reads a turn's CPU milliseconds an order of that program."""
    return lambda figures: float(figures["cpuMsPerOrder"][program])


def all_cpu(figures: Json) -> float:
    """Return a turn's CPU milliseconds an order of all programs."""
    return float(sum(figures["cpuMsPerOrder"].values()))


def _brief(told: Json) -> Json:
    cpu = {name: told["costs"][name]["cpuMsPerOrder"] for name in PROGRAMS}
    return {"perSecond": told["notified"]["perSecond"], "cpuMsPerOrder": cpu}
