"""`python -m bench.profile`: show where a worker under load spends its time, by py-spy.

It samples the stack that holds the GIL, so only running code counts. C code counts for the Python
function that called it, or with `--native` for itself. Writes a table by own time, and the stacks,
which any flame graph viewer reads.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import Json
from bench.loading import IN_FLIGHT, Length, load
from bench.run import FOLDER
from bench.site import Failed, Site
from devstack.server import ServerFailed

RATE = 199
"""Samples per second; a prime, so that it does not beat in time with timers."""
ROWS = 25
RESULTS = Path("bench/results")


def profile(site: Site, length: Length, rate: float | None, native: bool) -> Json:
    """Return the functions of a loaded worker by own time, and how busy it was. Raises Failed.

    The load is the closed loop, or the open one at `rate` lifecycles a second.
    """
    scenario, size = ("paced", rate) if rate else ("lifecycle", IN_FLIGHT)
    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load, site, scenario, size, length)
        stacks = _record(site.workers[0].pid, length, native)
        figures = loading.result()
    samples = sum(int(line.rpartition(" ")[2]) for line in stacks.splitlines())
    told = {
        "functions": by_own_time(stacks),
        "lifecyclesPerSecond": figures["notified"]["perSecond"],
        "busy": round(samples / RATE / (length.warm_up + length.seconds), 3),
    }
    (RESULTS / "profile.json").write_text(json.dumps(told, indent=1) + "\n")
    return told


def _record(pid: int | None, length: Length, native: bool) -> str:
    """Return stacks in Brendan Gregg's collapsed form: one per line, followed by its count."""
    out = RESULTS / "stacks.txt"
    RESULTS.mkdir(exist_ok=True)
    command = [
        str(Path(sys.executable).with_name("py-spy")),
        *("record", "--gil", "--pid", str(pid), "--rate", str(RATE), "--format", "raw"),
        *("--duration", str(int(length.warm_up + length.seconds)), "--output", str(out)),
        *(["--native"] if native else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"py-spy: {done.stderr}")
    return out.read_text()


def by_own_time(stacks: str) -> list[Json]:
    """Return the functions with the most samples: share of own time, and with what they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        whole.update(dict.fromkeys(frames, int(count)))
    total = own.total() or 1
    return [
        {
            "function": name,
            "own": round(100 * count / total, 2),
            "whole": round(100 * whole[name] / total, 2),
        }
        for name, count in own.most_common(ROWS)
    ]


def _function(frame: str) -> str:
    """Return `work (asyncio/base.py:12)` without the line, so that a function is one row."""
    name, _, place = frame.rpartition(" (")
    return f"{name} ({place.rpartition(':')[0]})"


def _table(told: Json) -> Table:
    title = f"{told['busy']:.0%} busy at {told['lifecyclesPerSecond']:.1f} lifecycles a second"
    table = Table("own %", "with callees %", "function", title=title)
    for row in told["functions"]:
        table.add_row(f"{row['own']:.1f}", f"{row['whole']:.1f}", row["function"])
    return table


def main(arguments: list[str]) -> int:
    """Return 0 if the table was printed, 1 if the measurement failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--native", action="store_true", help="C code, too: slower, and coarser")
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--rate", type=float, help="lifecycles a second, instead of the capacity")
    options, console = parser.parse_args(arguments), Console(width=120)
    try:
        with console.status("starting"), Site(FOLDER, 1, 4, lambda line: None) as site:
            length = Length(options.seconds, options.warm_up)
            told = profile(site, length, options.rate, options.native)
    except (Failed, ServerFailed) as problem:
        print(problem, file=sys.stderr)
        return 1
    console.print(_table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
