"""`python -m bench.run`: what the service can do on this machine, measured."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.figures import Json
from bench.site import Failed, Site
from bench.tables import quick_table
from devstack.server import ServerFailed

FOLDER = Path(".devstack/bench")
IN_FLIGHT = 192
"""Customers of the closed loop: fewer than the 200 creations that one worker lets in at once."""


def load(site: Site, scenario: str, size: float, seconds: float, warm_up: float) -> Json:
    """The figures of one scenario, by a load generator of its own. Raises Failed."""
    plan = json.dumps(site.plan(scenario, size, seconds, warm_up))
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"], input=plan, capture_output=True, text=True
    )
    if done.returncode:
        raise Failed(f"{scenario}: {done.stderr}")
    figures: Json = json.loads(done.stdout)
    return figures


def quick(options: argparse.Namespace, console: Console) -> Json:
    """One worker, one closed loop and half of what it carries: for whoever is tuning."""
    with console.status("starting servers and worker"):
        site = Site(FOLDER, options.workers[0], options.partitions, console.print)
    with site:
        with console.status(f"closed loop of {options.in_flight}"):
            most = load(site, "lifecycle", options.in_flight, options.seconds, options.warm_up)
        rate = most["notified"]["perSecond"] / 2
        if not rate:
            raise Failed(f"no order was carried through: {most['troubles']}")
        with console.status(f"open loop at {rate:.0f} a second"):
            half = load(site, "paced", rate, options.seconds, 3)
        with console.status("the auditor looks at the books"):
            audit = audited(site)
    return {"most": most, "half": half, "audit": audit}


def audited(site: Site) -> Json:
    """What the auditor says of the whole history, at rest. Waits until all is at rest."""
    time.sleep(2)
    code, output = site.command("audit", "--kafka", "--at-rest")
    return {"silent": code == 0, "code": code, "said": output}


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one worker, a minute or two")
    parser.add_argument("--workers", type=_numbers, default=[1, 2])
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: list[str]) -> int:
    """0 where the auditor is silent in the end."""
    options, console = _options(arguments), Console()
    try:
        report: dict[str, Any] = quick(options, console)
    except (Failed, ServerFailed) as problem:
        print(problem, file=sys.stderr)
        return 1
    console.print(quick_table(report))
    print(json.dumps(report["audit"]))
    return 0 if report["audit"]["silent"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
