"""`python -m bench.scale`: throughput and cost by workers, partitions, and orders in the tables.

Writes `bench/results/scale.json`.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.figures import Json, workers_text
from bench.history import fill
from bench.loading import IN_FLIGHT, Length, at_share, audited, load, most
from bench.machine import machine
from bench.run import FOLDER, numbers
from bench.site import Failed, Say, Site
from bench.turns import in_turns
from devstack.server import ServerFailed

RESULT = Path("bench/results/scale.json")
PARTITIONS = 12
TODAY = ("--days", "0.5")
"""Limits the audit to this run: prepared orders are older, and not in Kafka."""


def scale(options: argparse.Namespace, say: Say) -> Iterator[Json]:
    """Yield one row of figures after the other."""
    length = Length(options.seconds, options.warm_up)
    for workers in options.workers:
        yield _one(workers, PARTITIONS, length, say)
    for partitions in options.partitions:
        yield _one(1, partitions, length, say)


def _one(workers: int, partitions: int, length: Length, say: Say) -> Json:
    what = f"{workers_text(workers)}, {partitions} partitions"
    say(what)
    with Site(FOLDER, workers, partitions, say) as site:
        carried = most(site, IN_FLIGHT * workers, length, say)
        half = at_share(site, carried, 50, Length(length.seconds, 3), say)
        told = {"workers": workers, "partitions": partitions}
        return {"what": what, **told, "most": carried, "half": half, "audit": audited(site, say)}


def beside(few: int, many: int, length: Length, say: Say) -> Json:
    """Measure a system with few orders and one with many in turns."""
    with ExitStack() as stack:
        sites = {}
        for orders in (few, many):
            site = Site(FOLDER.with_name(f"bench-among-{orders}"), 1, PARTITIONS, say)
            sites[orders] = stack.enter_context(site)
            asyncio.run(fill(site.stack.postgres.url, orders, site.products, say))
            site.placed = orders
            say(f"warming up among {orders:,} orders")
            load(site, "lifecycle", IN_FLIGHT, Length(length.warm_up, 3))
        measures = {
            str(orders): partial(load, site, "lifecycle", IN_FLIGHT, length)
            for orders, site in sites.items()
        }
        turns = in_turns(measures, say)
        audits = [audited(site, say, *TODAY) for site in sites.values()]
        return {"few": few, "many": many, "turns": turns, "audits": audits}


def soak(orders: int, say: Say) -> Json:
    """Return a worker's memory, by the minute, until `orders` orders: [orders so far, MiB]."""
    carried, memory = 0, []
    with Site(FOLDER, 1, PARTITIONS, say) as site:
        while carried < orders:
            figures = load(site, "lifecycle", IN_FLIGHT, Length(60, 3))
            carried = site.orders()
            memory.append([carried, figures["costs"]["worker"]["pssMiB"]])
            say(f"{carried:,} of {orders:,} orders; {memory[-1][1]:.0f} MiB")
        return {"memory": memory, "audit": audited(site, say)}


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4])
    parser.add_argument("--partitions", type=numbers, default=[4, 48])
    parser.add_argument(
        "--orders",
        type=numbers,
        default=[10_000, 1_000_000],
        help="already in the tables: the first number beside each of the others",
    )
    parser.add_argument("--soak", type=int, default=0, help="orders over which memory is watched")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=20.0)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Return 0 if every audit is silent."""
    options, console = _options(arguments), Console()
    rows, history = list[Json](), list[Json]()
    report: Json = {"scaleMachine": machine(), "scale": rows, "history": history}
    turn = Length(options.seconds / 2, options.warm_up / 2)
    RESULT.parent.mkdir(exist_ok=True)
    try:
        with console.status("starting") as status:
            for row in scale(options, status.update):
                rows.append(row)
                console.print(f"{row['what']}: {row['most']['notified']['perSecond']:.1f} a second")
                RESULT.write_text(json.dumps(report, indent=1) + "\n")
            for many in options.orders[1:]:
                history.append(beside(options.orders[0], many, turn, status.update))
                RESULT.write_text(json.dumps(report, indent=1) + "\n")
            if options.soak:
                report["soak"] = soak(options.soak, status.update)
    except (Failed, ServerFailed) as problem:
        print(problem, file=sys.stderr)
        return 1
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    audits = [row["audit"] for row in (*rows, report.get("soak")) if row]
    audits += [audit for one in history for audit in one["audits"]]
    broken = [audit["said"] for audit in audits if not audit["silent"]]
    print(*broken, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
