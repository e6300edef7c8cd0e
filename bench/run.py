"""`python -m bench.run`: measure the service on this machine."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from bench.figures import Json, workers_text
from bench.limit import beside_the_limit
from bench.loading import IN_FLIGHT, Length, all_figures, at_share, audited, most
from bench.machine import machine
from bench.overload import overload
from bench.site import Failed, Say, Site
from bench.tables import full_table, quick_table
from devstack.server import ServerFailed

FOLDER = Path(".devstack/bench")
LATEST = Path("bench/results/latest.json")


def quick(options: argparse.Namespace, say: Say) -> Json:
    """Measure one worker in a closed loop and at half of that load, for tuning."""
    length = Length(options.seconds, options.warm_up)
    with Site(FOLDER, options.workers[0], options.partitions, say) as site:
        carried = most(site, options.in_flight, length, say)
        half = at_share(site, carried, 50, Length(options.seconds, 3), say)
        return {"most": carried, "half": half, "audit": audited(site, say)}


def full(options: argparse.Namespace, say: Say) -> Json:
    """Measure everything but the scale: each number of workers, beside the limit, and overload."""
    length = Length(options.seconds, options.warm_up)
    report: Json = {"machine": machine(), "options": vars(options), "sites": []}
    for workers in options.workers:
        say(f"with {workers_text(workers)}")
        with Site(FOLDER, workers, options.partitions, say) as site:
            figures = all_figures(site, length, say)
            limit = beside_the_limit(site, length, say)
            report["sites"].append(figures | {"limit": limit, "audit": audited(site, say)})
        keep(report)
    with Site(FOLDER, 1, options.partitions, say) as site:
        report["overload"] = overload(site, length, say)
    keep(report)
    return report


def keep(report: Json) -> None:
    """Write the results so far."""
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(report, indent=1) + "\n")


def silent(report: Json) -> bool:
    """Return whether every audit in the report was silent."""
    audits = [report["audit"]] if "audit" in report else []
    audits += [of["audit"] for site in report.get("sites", []) for of in (site, site["limit"])]
    audits += [report["overload"]["audit"]] if "overload" in report else []
    return all(audit["silent"] for audit in audits)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one worker, a minute or two")
    parser.add_argument("--workers", type=numbers, default=[1, 2], help="1,2")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each window")
    parser.add_argument("--warm-up", type=float, default=20.0, help="seconds before the first")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="of --quick")
    return parser.parse_args(arguments)


def numbers(text: str) -> list[int]:
    """Parse an argument like `1,2`; empty gives an empty list."""
    return [int(part) for part in text.split(",") if part]


def main(arguments: list[str]) -> int:
    """Return 0 if the audits are silent, 1 if one is not or nothing could be measured."""
    options, console = _options(arguments), Console()
    if not console.is_terminal:
        console.width = 110
    try:
        with console.status("starting servers and workers") as status:
            report = (quick if options.quick else full)(options, status.update)
    except (Failed, ServerFailed) as problem:
        print(problem, file=sys.stderr)
        return 1
    console.print(quick_table(report) if options.quick else full_table(report))
    if not silent(report):
        console.print_json(data=report)
        return 1
    console.print("Every invariant holds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
