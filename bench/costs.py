"""Measure the CPU and memory of the programs that take part, from /proc."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """A program's CPU seconds so far and bytes of memory, with all that it started.

    Pages that several processes map are divided among them (PSS).
    """

    cpu: float
    pss: int


def cost(pids: Iterable[int]) -> Cost:
    """Return the cost of those processes and their descendants, including reaped ones' CPU."""
    family = _family(set(pids))
    return Cost(sum(map(_cpu, family)), sum(map(_pss, family)))


def costs(programs: Mapping[str, list[int]]) -> dict[str, Cost]:
    """Return the cost of each program; `others` is the CPU time of the rest of the machine."""
    found = {name: cost(pids) for name, pids in programs.items()}
    ours = sum(one.cpu for one in found.values())
    return found | {"others": Cost(_machine() - ours, 0)}


def spent(
    before: Mapping[str, Cost], after: Mapping[str, Cost], orders: int
) -> dict[str, dict[str, Any]]:
    """Return by program: CPU seconds used, the same in ms per order, and memory at the end."""
    return {
        name: {
            "cpuSeconds": round(end.cpu - before[name].cpu, 3),
            "cpuMsPerOrder": round((end.cpu - before[name].cpu) * 1000 / orders, 4)
            if orders
            else None,
            "pssMiB": round(end.pss / 1024**2, 1),
        }
        for name, end in after.items()
    }


def _machine() -> float:
    """Return the machine's CPU seconds since it started, without idle time and disk waits."""
    times = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return (sum(map(int, times)) - int(times[3]) - int(times[4])) / _TICKS


def _family(roots: set[int]) -> set[int]:
    parents = {int(entry.name): _parent(entry) for entry in _processes()}
    family = roots & parents.keys()
    while True:
        children = {pid for pid, parent in parents.items() if parent in family} - family
        if not children:
            return family
        family |= children


def _processes() -> list[Path]:
    return [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _stat(pid: int | str) -> list[str]:
    """Return the fields of proc(5)'s stat from the state on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(entry: Path) -> int:
    fields = _stat(entry.name)
    return int(fields[1]) if fields else 0


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    # utime, stime, and those of reaped children.
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _rss(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) * _PAGE if fields else 0


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return _rss(pid)
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
