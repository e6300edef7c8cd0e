"""No request, however odd, gets an undocumented answer.

FUZZ_CASES is the minimum number of cases, FUZZ_SEED selects them: the same seed draws the same
cases, as far as the answers are the same.
"""

import logging
import os
import re
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest

from devstack.worker import Worker
from tests.acceptance.client import Api
from tests.acceptance.conftest import Metric
from tests.fuzz.run import Caller, Done, Run

CASES = int(os.environ.get("FUZZ_CASES", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
ALL_PHASES, RANDOM_PHASES = (
    "--phases=examples,coverage,fuzzing,stateful",
    "--phases=fuzzing,stateful",
)

UNSENT = {"GET /openapi.json"}
"""Requests that Schemathesis makes only to load the document, not as cases."""
UNSIGNED = {"POST /api/stripe/webhook"}
"""Requests that only Stripe can sign; tests/acceptance/test_stripe_webhook.py covers them."""

# Ten cases a second is a fifth of what two busy cores achieve; a slower run hangs.
pytestmark = pytest.mark.timeout(300 + CASES / 10)
log = logging.getLogger(__name__)


class Campaign:
    """Rounds of one run per caller, until enough cases were sent or something failed."""

    def __init__(self, url: str, callers: list[Caller], known: Path, folder: Path) -> None:
        self._url, self._callers, self._known, self._folder = url, callers, known, folder
        self.cases = 0
        self.failures: list[str] = []
        self.answers: Counter[tuple[str, int]] = Counter()

    def carry_out(self) -> None:
        """Send the cases, and log the progress."""
        begun, seed = monotonic(), SEED
        while self.cases < CASES and not self.failures:
            # The cases of the other phases do not depend on the seed.
            self._round(seed, ALL_PHASES if seed == SEED else RANDOM_PHASES)
            rate = self.cases / (monotonic() - begun)
            log.info("seed %d: %d of %d cases, %.0f a second", seed, self.cases, CASES, rate)
            seed += 1

    def _round(self, seed: int, phases: str) -> None:
        for run in self._run(self._folder / str(seed), f"--seed={seed}", phases):
            self.cases += run.cases
            self.answers.update(run.answers)
            self.failures += [run.output] if run.code else []

    def _run(self, folder: Path, *options: str) -> list[Done]:
        runs = [
            Run(self._url, caller, self._known, folder / caller.name, options)
            for caller in self._callers
        ]
        try:
            return [run.finish() for run in runs]
        finally:
            for run in runs:
                run.kill()


@pytest.fixture(scope="module")
def campaign(
    fuzzed: Worker, callers: list[Caller], known: Path, tmp_path_factory: pytest.TempPathFactory
) -> Campaign:
    """All runs and their answers."""
    campaign = Campaign(fuzzed.url, callers, known, tmp_path_factory.mktemp("campaign"))
    campaign.carry_out()
    return campaign


def test_every_answer_is_documented(campaign: Campaign) -> None:
    assert not campaign.failures, "\n".join(campaign.failures)
    assert campaign.cases >= CASES


async def test_every_operation_succeeded_for_somebody(campaign: Campaign, api: Api) -> None:
    paths = (await api.ask("GET", "/openapi.json")).body["paths"]
    operations = {f"{method.upper()} {path}" for path in paths for method in paths[path]}
    succeeded = {label for label, status in campaign.answers if status < 300}
    assert operations - succeeded - UNSENT - UNSIGNED == set()


async def test_no_event_was_put_aside(campaign: Campaign, metric: Metric) -> None:
    assert await metric("orders_dead_letters_total") == 0


def test_nothing_failed_in_the_worker(campaign: Campaign, fuzzed: Worker) -> None:
    failed = re.compile(r"^Traceback| ERROR (app|web|tables|agents)\b")
    assert [line for line in fuzzed.log.read_text().splitlines() if failed.search(line)] == []
