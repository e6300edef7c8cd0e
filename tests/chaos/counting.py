"""Add up the counters of workers that start and die during a run."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.deployment import Deployment

SECONDS = 0.5
COUNTERS = {
    "orders_duplicate_events_total": "events",
    "orders_idempotent_replays_total": "replays of requests",
}
"""The label by which a run reports each counter."""


class Counting:
    """Adds each increase of the workers' counters to `total`."""

    def __init__(self, deployment: Deployment, total: Counter[str]) -> None:
        self._deployment = deployment
        self._total = total
        self._last: Counter[tuple[int, str]] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll the counters often: a killed worker loses what it counted since the last poll."""
        counting = asyncio.create_task(self._count())
        try:
            yield
        finally:
            counting.cancel()

    async def _count(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                for worker in list(self._deployment.workers):
                    pid = worker.pid or 0
                    with suppress(aiohttp.ClientError, TimeoutError, OSError):
                        async with session.get(f"{worker.url}/metrics") as answer:
                            self._add(pid, await answer.text())
                await asyncio.sleep(SECONDS)

    def _add(self, pid: int, text: str) -> None:
        seen: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if what := COUNTERS.get(sample.name):
                    seen[what] += int(sample.value)
        for what, value in seen.items():
            self._total[what] += max(0, value - self._last[pid, what])
            self._last[pid, what] = value
