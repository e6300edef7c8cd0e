"""Compare the service's lifecycles with what bare clients carry on the same machine."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from bench.figures import Json
from bench.loading import IN_FLIGHT, Length, audited, load
from bench.site import Failed, Say, Site
from bench.turns import in_turns

FOLDER = Path(".devstack/limit")
CUSTOMERS = 2 * IN_FLIGHT
WARM_UP_SECONDS = 5.0
"""Before each turn: connections are made and statements prepared."""


def beside_the_limit(site: Site, length: Length, say: Say) -> Json:
    """Return what the site and the limit carry in turns. Raises Failed."""
    with Site(FOLDER, 0, site.partitions, say) as bare:
        _carry(bare, Length(length.warm_up, WARM_UP_SECONDS))
        customers = IN_FLIGHT * len(site.workers)
        turn = Length(length.seconds / 4, WARM_UP_SECONDS)
        measures = {
            "ours": partial(load, site, "lifecycle", customers, turn),
            "the limit": partial(_carry, bare, turn),
        }
        return {"turns": in_turns(measures, say), "audit": audited(bare, say)}


def _carry(bare: Site, length: Length) -> Json:
    """Return what bare asyncpg and aiokafka carry of the same work. Raises Failed."""
    plan = bare.plan("bare", CUSTOMERS, length.seconds, length.warm_up)
    command = [sys.executable, "-m", "bench.bare"]
    done = subprocess.run(command, input=plan, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"the limit: {done.stderr}")
    figures: Json = json.loads(done.stdout)
    return figures
