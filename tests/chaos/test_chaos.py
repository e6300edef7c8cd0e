"""Everything is broken under load, and no order is lost or processed twice.

`make chaos ROUNDS=… SEED=… RATE=…` plays that many rounds with that many customers a second, and
logs everything that happens.
"""

import logging
import os
from pathlib import Path

import pytest

from tests.chaos.harness import Tally, play
from tests.chaos.proxied_servers import town

log = logging.getLogger(__name__)

FAULTS_PER_ROUND = 6
LEAST_SECONDS, LEAST_KINDS = 180, 10


def enough(rounds: int, tally: Tally) -> bool:
    """Return whether the requested rounds, else three minutes and ten kinds of faults, are over."""
    if wanted := os.environ.get("CHAOS_ROUNDS"):
        return rounds >= int(wanted)
    return tally.seconds >= LEAST_SECONDS and len(tally.faults) >= LEAST_KINDS


@pytest.mark.timeout(0)
async def test_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    seed = int(os.environ.get("CHAOS_SEED", "1"))
    rate = float(os.environ.get("CHAOS_RATE", "6"))
    with town(tmp_path) as place:
        tally = await play(place, seed, rate, FAULTS_PER_ROUND, enough, log.info)
    log.info("seed %d, %g customers a second\n%s", seed, rate, tally.table())
    assert not tally.findings, "\n".join(tally.findings)
    assert tally.orders.total() > 0
