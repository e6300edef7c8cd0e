"""Compare the service's lifecycles with what bare clients carry on the same machine."""

import json
import subprocess
import sys

from bench.figures import Json
from bench.loading import IN_FLIGHT, Length, audited
from bench.site import Failed, Say, Site


def limit(site: Site, length: Length, say: Say) -> Json:
    """Return what bare asyncpg and aiokafka carry of the same work. Raises Failed."""
    say("the limit: the same statements and messages, without Faust and aiohttp")
    plan = site.plan("bare", 2 * IN_FLIGHT, length.seconds, length.warm_up)
    command = [sys.executable, "-m", "bench.bare"]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"the limit: {done.stderr}")
    figures: Json = json.loads(done.stdout)
    return figures | {"audit": audited(site, say)}


def ratio(ours: Json, bare: Json) -> Json:
    """Return throughput and CPU per order of a closed loop, each divided by the limit's."""
    cost = {
        name: _divided(ours["costs"][name]["cpuMsPerOrder"], bare["costs"][name]["cpuMsPerOrder"])
        for name in ("worker", "postgres", "kafka")
    }
    return {
        "throughput": _divided(ours["notified"]["perSecond"], bare["notified"]["perSecond"]),
        "cpu": cost,
    }


def _divided(ours: float | None, bare: float | None) -> float | None:
    return round(ours / bare, 3) if ours and bare else None
