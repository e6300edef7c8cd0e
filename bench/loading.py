"""Scenarios against a site, each run by a load generator in a separate process."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from bench.figures import Json
from bench.site import Failed, Say, Site

IN_FLIGHT = 320
"""Customers per worker in the closed loop; with more, a worker begins to refuse orders.

Most of their orders are in flight: a worker lets 64 be created at once, and a refused customer
retries.
"""
CREATING = 48
READING = 32
SHARES = (25, 50, 75)
"""The loads at which latencies are measured, in percent of the capacity."""
SETTLING_SECONDS = 2.0
AUDIT_SECONDS = 1800.0
"""How long one query of the auditor may take with millions of orders."""


@dataclass(frozen=True)
class Length:
    """The measured seconds, and the seconds before, in which caches and compilers warm up."""

    seconds: float
    warm_up: float


def load(site: Site, scenario: str, size: float, length: Length) -> Json:
    """Run one scenario; return its figures. Raises Failed."""
    plan = site.plan(scenario, size, length.seconds, length.warm_up)
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"], input=plan, capture_output=True, text=True
    )
    if done.returncode:
        raise Failed(f"{scenario}: {done.stderr}")
    figures: Json = json.loads(done.stdout)
    site.placed += figures.get("placed", 0)
    return figures


def most(site: Site, in_flight: int, length: Length, say: Say) -> Json:
    """Return the capacity by a closed loop of whole lifecycles. Raises Failed if it is 0."""
    say(f"closed loop of {in_flight} customers")
    figures = load(site, "lifecycle", in_flight, length)
    if not figures["notified"]["count"]:
        raise Failed(f"no order was carried through: {figures['troubles']}")
    return figures


def at_share(site: Site, carried: Json, percent: int, length: Length, say: Say) -> Json:
    """Run the open loop at that percentage of the capacity."""
    rate = carried["notified"]["perSecond"] * percent / 100
    say(f"open loop at {rate:.1f} a second, {percent} % of the capacity")
    return load(site, "paced", rate, length)


def all_figures(site: Site, length: Length, say: Say) -> Json:
    """Return all figures of a site: creations, lifecycles, latencies by load, reads."""
    in_flight = IN_FLIGHT * len(site.workers)
    carried = most(site, in_flight, length, say)
    short = Length(length.seconds, 3)
    paced = {str(share): at_share(site, carried, share, short, say) for share in SHARES}
    say("orders that are only placed")
    created = load(site, "create", CREATING * len(site.workers), Length(length.seconds / 2, 3))
    say("reads")
    reads = load(site, "reads", READING, Length(min(length.seconds / 2, 15), 0))
    return {
        "workers": len(site.workers),
        "partitions": site.partitions,
        "inFlight": in_flight,
        "most": carried,
        "paced": paced,
        "create": created,
        "reads": reads,
    }


def audited(site: Site, say: Say, *more: str) -> Json:
    """Return what the auditor says of the whole history once the system is at rest."""
    say("the auditor looks at the books")
    time.sleep(SETTLING_SECONDS)
    begun = time.monotonic()
    patience = ("--patience", f"{AUDIT_SECONDS:.0f}")
    code, output = site.command(
        "audit", "--kafka", "--at-rest", *patience, *more, seconds=AUDIT_SECONDS * 2
    )
    took = round(time.monotonic() - begun, 1)
    strangers = site.orders() - site.placed if site.workers else 0
    if strangers:
        output += f"\n{strangers} orders are in the tables of which no customer knows"
    silent = code == 0 and not strangers
    site.is_broken = not silent
    return {"silent": silent, "said": output, "seconds": took}
