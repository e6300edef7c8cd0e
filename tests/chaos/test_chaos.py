"""Everything is broken while customers are in the shop, and nothing is lost and nothing doubled.

`make chaos ROUNDS=… SEED=… RATE=…` plays so many rounds with so many customers a second, and tells
all that happens as it happens.
"""

import logging
import os
from pathlib import Path

import pytest

from tests.chaos.harness import Tally, play
from tests.chaos.town import town

log = logging.getLogger(__name__)

FAULTS_PER_ROUND = 6
LEAST_SECONDS, LEAST_KINDS = 180, 10


def enough(rounds: int, tally: Tally) -> bool:
    """So many rounds as were asked for; else three minutes and ten kinds of faults."""
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
