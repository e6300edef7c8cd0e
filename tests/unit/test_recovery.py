"""What ends a recovery of the tables, and what does not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP

from app import app
from app.kafka.consumer import _Consumer
from app.kafka.recovery import Tables

SHORT, LONG, EXPIRED, UNLED = (TP("orders-handled-changelog", n) for n in range(4))


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


class Changelogs:
    """A consumer whose broker loses all but five entries once ten were to be read."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        self.opened = 0
        """How often the flow was opened."""
        self.assigned = {SHORT}
        self.sought: list[dict[TP, int]] = []
        self.on_reading: Callable[[], None] = lambda: None
        self.on_stopped: Callable[[], None] = lambda: None
        self._ends = iter([10, 5])

    def without_leader(self, tps: set[TP]) -> set[TP]:
        return tps & {UNLED}

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        await self._led(tps)
        return dict.fromkeys(tps, next(self._ends))

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        await self._led(tps)
        return dict.fromkeys(tps, 0)

    async def _led(self, tps: tuple[TP, ...]) -> None:
        if UNLED in tps:
            await asyncio.Event().wait()

    async def seek_wait(self, offsets: dict[TP, int]) -> None:
        self.sought.append(offsets)

    def assignment(self) -> set[TP]:
        return self.assigned

    def resume_partitions(self, tps: set[TP]) -> None:
        """Read what is left; no more comes."""
        if SHORT in tps:
            self._recovery.active_offsets[SHORT] = 4

    def pause_partitions(self, tps: set[TP]) -> None:
        pass

    def resume_flow(self) -> None:
        self.opened += 1
        self.on_reading()

    def stop_flow(self) -> None:
        self.on_stopped()

    async def perform_seek(self) -> None:
        pass


class Restored:
    """A table that has nothing to do once it is recovered."""

    recovery_buffer_size = 1000

    async def on_recovery_completed(self, *_: Any) -> None:
        pass


class Restoring:
    """A worker that restores the partition SHORT from offset 1 on, without a broker."""

    def __init__(self, recovery: Recovery) -> None:
        self.consumer = Changelogs(recovery)
        self.recovery = recovery
        nothing = partial(asyncio.sleep, 0)
        self.app = recovery.app = cast(
            Any,
            SimpleNamespace(
                conf=app.conf,
                consumer=self.consumer,
                consumer_generation_id=0,
                rebalancing_count=0,
                tracer=None,
                _producer=None,
                _fetcher=SimpleNamespace(maybe_start=nothing),
                flow_control=SimpleNamespace(suspend=lambda: None, resume=lambda: None),
                assignor=SimpleNamespace(assigned_standbys=set),
                on_rebalance_complete=SimpleNamespace(send=nothing),
                on_rebalance_end=lambda: None,
            ),
        )
        table: Any = Restored()
        recovery.tables = cast(Any, Tables(app))
        recovery.tables["handled"] = recovery.tp_to_table[SHORT] = table
        recovery.tables._changelogs[SHORT.topic] = table
        recovery.active_tps.add(SHORT)
        recovery.active_offsets[SHORT] = 1
        self._wait_for_next = recovery.wait_for_stopped
        self.rests = asyncio.Event()
        """Whether a recovery is over, however it ended."""
        cast(Any, recovery).wait_for_stopped = self._rest

    async def _rest(self, signal: Any) -> bool:
        if self.consumer.sought:
            self.rests.set()
        return await self._wait_for_next(signal)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        """Restore; the worker stops at the end."""
        self.recovery.signal_recovery_start.set()
        restoring = asyncio.create_task(cast(Any, self.recovery)._restart_recovery(self.recovery))
        async with asyncio.timeout(20):
            yield
            self.recovery._stopped.set()
            await restoring


async def test_a_changelog_that_loses_what_is_unread_is_asked_again_where_it_ends(
    recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No entry comes, which would tell it; what was read is not read again."""
    worker, limit = Restoring(recovery), "app.kafka.recovery.READING_SECONDS"

    def read_in_vain() -> None:
        if worker.consumer.opened == 1:
            monkeypatch.setattr(limit, 0.001)

    worker.consumer.on_reading = read_in_vain
    worker.consumer.on_stopped = lambda: monkeypatch.setattr(limit, 60)
    async with worker.begun():
        await recovery.completed.wait()
    assert worker.consumer.sought == [{SHORT: 1}, {SHORT: 4}]
    assert worker.consumer.opened == 3, "to read; as nothing is left to read; and at the end"


@pytest.mark.parametrize("known", [None, 7])
async def test_a_changelog_without_a_leader_holds_up_no_other(
    recovery: Recovery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    known: int | None,
) -> None:
    worker = Restoring(recovery)
    recovery.tp_to_table[UNLED] = recovery.tp_to_table[SHORT]
    recovery.active_tps.add(UNLED)
    cast(Any, recovery.active_offsets)[UNLED] = known
    conf = SimpleNamespace(broker_request_timeout=0.01, recovery_consistency_check=True, store="")
    monkeypatch.setattr(worker.app, "conf", conf)
    worker.consumer.on_reading = recovery.signal_recovery_end.set
    async with worker.begun():
        await recovery.completed.wait()
    assert worker.consumer.sought == [{SHORT: 1, UNLED: known or 0}]
    assert f"{UNLED} has no leader" in caplog.text


async def test_a_recovery_whose_partitions_are_revoked_while_it_reads_opens_no_flow(
    recovery: Recovery,
) -> None:
    """Faust ignores the error of that wait, and goes on."""
    worker = Restoring(recovery)

    def revoke() -> None:
        worker.app.rebalancing_count += 1
        worker.consumer.assigned = set()
        recovery.signal_recovery_end.set()

    worker.consumer.on_reading = revoke
    async with worker.begun():
        await worker.rests.wait()
    assert worker.consumer.opened == 1, "to read"
    assert not recovery.completed.is_set()


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


async def earliest_offsets(*tps: TP) -> dict[TP, int]:
    """Return the earliest offsets: everything of one has expired."""
    return {tp: 100 if tp == EXPIRED else 0 for tp in tps}
