"""What ends a recovery of the tables, and what does not."""

import asyncio
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP

from app import app
from app.kafka.consumer import _Consumer
from app.kafka.recovery import Tables

SHORT, LONG, EXPIRED = (TP("orders-handled-changelog", n) for n in range(3))


@pytest.fixture
async def recovery() -> Recovery:
    """A recovery that is not started."""
    recovery = Tables(app).recovery
    cast(Any, recovery)._loop = asyncio.get_running_loop()
    return recovery


async def test_a_step_that_no_broker_answers_begins_the_recovery_again(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []
    monkeypatch.setattr(recovery, "_stop_flow", lambda: stopped.append(True))
    with pytest.raises(RebalanceAgain):
        await recovery._wait(asyncio.Event().wait(), timeout=0.001)
    assert recovery.signal_recovery_start.is_set() and stopped


async def test_a_worker_that_stops_ends_the_recovery(recovery: Recovery) -> None:
    recovery._stopped.set()
    with pytest.raises(ServiceStopped):
        await recovery._wait(asyncio.Event().wait())
    assert not recovery.signal_recovery_start.is_set()


async def test_where_partitions_are_revoked_meanwhile_the_recovery_does_not_go_on(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would open the flow, while other workers take the partitions over."""
    await recovery.on_rebalance(set(), set(), set(), generation_id=-1)
    await recovery._wait(asyncio.sleep(0))
    monkeypatch.setattr(app, "rebalancing_count", app.rebalancing_count + 1)
    with pytest.raises(RebalanceAgain):
        await recovery._wait(asyncio.sleep(0))
    await recovery.on_rebalance(set(), set(), set(), generation_id=-1)
    await recovery._wait(asyncio.sleep(0))


async def test_the_end_of_the_last_recovery_is_not_the_end_of_the_next(recovery: Recovery) -> None:
    recovery.signal_recovery_end.set()
    await recovery.on_rebalance(set(), set(), set(), generation_id=-1)
    assert not recovery.signal_recovery_end.is_set()


async def test_a_changelog_that_lost_its_end_is_read_from_its_beginning(recovery: Recovery) -> None:
    """The disk has seen offset 150 of all; EXPIRED and SHORT end before it, one of them empty."""
    recovery.active_highwaters.update({SHORT: 50, LONG: 200, EXPIRED: 99})
    offsets: Counter[TP] = Counter({SHORT: 150, LONG: 150, EXPIRED: 150})
    consumer = SimpleNamespace(earliest_offsets=earliest_offsets)
    await recovery._build_offsets(cast(Any, consumer), set(offsets), offsets, "active")
    assert offsets == {SHORT: -1, LONG: 150, EXPIRED: 99}


async def test_an_empty_changelog_has_lost_nothing(
    recovery: Recovery, caplog: pytest.LogCaptureFixture
) -> None:
    recovery.active_highwaters.update({SHORT: -1})
    offsets: Counter[TP] = Counter()
    cast(Any, offsets)[SHORT] = None
    consumer = SimpleNamespace(earliest_offsets=earliest_offsets)
    await recovery._build_offsets(cast(Any, consumer), set(offsets), offsets, "active")
    assert "has lost its end" not in caplog.text


async def test_a_changelog_that_loses_its_end_meanwhile_is_read_to_where_it_ends_now(
    recovery: Recovery,
) -> None:
    """It was to be read to offset 50; the broker has lost all but four of its entries."""
    recovery.active_tps.add(SHORT)
    recovery.active_highwaters[SHORT], recovery.in_recovery = 50, True
    cast(Any, recovery).tp_to_table[SHORT] = SimpleNamespace(apply_changelog_batch=len)
    consumer = SimpleNamespace(
        app=SimpleNamespace(tables=SimpleNamespace(recovery=recovery)), highwater=lambda tp: 4
    )
    for offset in range(3):
        _Consumer._restore(cast(Any, consumer), SHORT, [entry(offset)])
        assert not recovery.signal_recovery_end.is_set()
    _Consumer._restore(cast(Any, consumer), SHORT, [entry(3)])
    assert recovery.signal_recovery_end.is_set()


async def test_nothing_flows_from_an_assignment_until_its_tables_are_recovered() -> None:
    """The flow of a worker without partitions is never stopped, nor that of a late recovery."""
    loop = asyncio.get_running_loop()
    flow = SimpleNamespace(suspend=lambda: seen.append("suspended"))
    seen: list[str] = []

    async def assigned(*_: Any) -> None:
        assert not consumer.flow_active
        seen.append("assigned")

    consumer = app.transport.Consumer(app.transport, cast(Any, len), assigned, assigned, loop=loop)
    cast(Any, consumer).app = SimpleNamespace(
        flow_control=flow, on_rebalance_return=lambda: None, _start_span_from_rebalancing=span
    )
    consumer.resume_flow()
    await consumer.on_partitions_assigned({SHORT})
    assert seen == ["suspended", "assigned"]


def span(name: str) -> Any:
    """Return a span that traces nothing."""
    return nullcontext()


def entry(offset: int) -> Any:
    """Return a changelog record."""
    return SimpleNamespace(offset=offset, key=b"a key", value=b"1")


async def earliest_offsets(*places: TP) -> dict[TP, int]:
    """Return the earliest offsets: everything of one has expired."""
    return {place: 100 if place == EXPIRED else 0 for place in places}
