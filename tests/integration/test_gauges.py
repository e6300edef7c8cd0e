"""The gauges of what waits in PostgreSQL tell nothing old while it does not answer."""

import os
import subprocess
import sys
from math import isnan

import pytest
from prometheus_client import Gauge

from app import background
from app.db.pools import Database
from app.metrics import FAILED_REFUNDS, FAILING_MAILS, OUTBOX_AGE, OVERDUE_CALLS, POSTGRES_UP
from devstack.ports import free_port

WAITING = OUTBOX_AGE, OVERDUE_CALLS, FAILED_REFUNDS, FAILING_MAILS


async def test_a_worker_without_postgresql_tells_no_old_numbers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alert takes the greatest number of all workers, and NaN is none."""
    nowhere = Database({"dsn": f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"}, 1)
    await nowhere.open()
    for pool, up in ((database, 1), (nowhere, 0), (database, 1)):
        monkeypatch.setattr(background, "timer_pool", pool)
        await background._count_what_waits()
        assert told(POSTGRES_UP) == up
        assert [isnan(told(gauge)) for gauge in WAITING] == [not up] * len(WAITING)
    await nowhere.close()


def test_a_worker_that_starts_does_not_call_postgresql_away(environment: dict[str, str]) -> None:
    """It asks some seconds later, and one that crashes again and again may never come to that."""
    show = "from app.metrics import POSTGRES_UP; print(POSTGRES_UP.collect()[0].samples[0].value)"
    command, variables = [sys.executable, "-c", show], {**os.environ, **environment}
    assert subprocess.check_output(command, env=variables, text=True, timeout=60) == "nan\n"


def told(gauge: Gauge) -> float:
    """Return what /metrics shows of the gauge."""
    [metric] = gauge.collect()
    return metric.samples[0].value
