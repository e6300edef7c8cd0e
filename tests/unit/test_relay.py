"""What a worker does with its commits while it leads, does not lead, or begins to."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from app.db.rows import OutboxRow
from app.kafka.broker_access import Brokers
from app.outbox.relay import Relay
from app.outbox.rows import LOOK, decode_from_notify, encode_for_notify
from app.resilience.admission_control import Admission


class Leader:
    """A stand-in for PostgreSQL, which notifies, and for the leader's events in flight."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.sent: list[OutboxRow] = []
        self.marked: list[list[UUID]] = []
        self.has_room = True
        self.is_open = asyncio.Event()
        self.is_open.set()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Leader"]:
        yield self

    async def tell_relay(self, connection: object, payloads: list[str]) -> None:
        self.told.append(payloads)
        await self.is_open.wait()

    async def mark_and_take(self, connection: object, **asked: Any) -> list[Any]:
        self.marked.append(asked["sent_orders"])
        return []

    def send_committed(self, rows: Iterable[OutboxRow]) -> bool:
        self.sent += rows
        return self.has_room


@pytest.fixture
async def leader(monkeypatch: pytest.MonkeyPatch) -> Leader:
    leader = Leader()
    for module in ("relay", "marks"):
        monkeypatch.setattr(f"app.outbox.{module}.sql", leader)
    monkeypatch.setattr("app.outbox.relay.GATHER_SECONDS", 0)
    return leader


def row() -> OutboxRow:
    return OutboxRow(
        str(uuid4()), "order.paid", uuid4(), 1, "r", "2026-01-03T12:00:00.000000Z", b"{}"
    )


async def commit(relay: Relay, *rows: OutboxRow, surely: bool = True) -> None:
    """Commit these rows; `surely` if PostgreSQL has confirmed it."""
    done = SimpleNamespace(events=rows, written=list(rows), is_committed=surely)
    await relay.after_commit(cast(Any, done))


async def come_down() -> None:
    """Let everything pending be sent and notified."""
    for _ in range(10):
        await asyncio.sleep(0)


def relay_to(leader: Leader, leads: bool = False) -> Relay:
    relay = Relay(Brokers([]), cast(Any, leader), Admission())
    relay._in_flight = cast(Any, leader) if leads else None
    return relay


async def test_what_is_committed_while_the_last_is_told_is_told_together(leader: Leader) -> None:
    relay, first, second, third = relay_to(leader), row(), row(), row()
    leader.is_open.clear()
    await commit(relay, first)
    await asyncio.sleep(0)
    await commit(relay, second)
    await commit(relay, third)
    leader.is_open.set()
    await come_down()
    assert [list(map(decode_from_notify, told)) for told in leader.told] == [
        [first],
        [second, third],
    ]


async def test_the_leader_is_told_again_once_the_last_was_told(leader: Leader) -> None:
    relay, first, second = relay_to(leader), row(), row()
    for committed in (first, second):
        await commit(relay, committed)
        await come_down()
    assert leader.told == [[encode_for_notify(first)], [encode_for_notify(second)]]


@pytest.mark.parametrize("has_room", [True, False])
async def test_what_a_leader_has_no_room_for_is_looked_for(leader: Leader, has_room: bool) -> None:
    leader.has_room = has_room
    relay = relay_to(leader, leads=True)
    await commit(relay, row())
    await come_down()
    assert relay._wake.is_set() is not has_room


async def test_what_may_not_be_committed_is_looked_for(leader: Leader) -> None:
    relay, sure = relay_to(leader), row()
    await commit(relay, sure)
    await commit(relay, row(), surely=False)
    await come_down()
    assert leader.told == [[encode_for_notify(sure), LOOK]]
    leading = relay_to(leader, leads=True)
    await commit(leading, row(), surely=False)
    await come_down()
    assert leading._wake.is_set() and not leader.sent


async def test_a_leader_sends_what_it_hears_and_tells_itself_nothing(leader: Leader) -> None:
    relay, before, after, heard = relay_to(leader), row(), row(), row()
    leader.is_open.clear()
    await commit(relay, before)
    await asyncio.sleep(0)
    relay._in_flight = cast(Any, leader)
    await commit(relay, after)
    relay._hear("connection", 1, "outbox", encode_for_notify(heard))
    leader.is_open.set()
    await come_down()
    assert leader.told == [[encode_for_notify(before)]]
    assert leader.sent == [after, heard]
    relay._hear("connection", 1, "outbox", LOOK)
    assert relay._wake.is_set()


async def test_what_is_acknowledged_when_the_lead_ends_is_marked_at_the_last(
    leader: Leader,
) -> None:
    """The next leader would send it again."""
    task = SimpleNamespace(done=lambda: False)
    client, sender = SimpleNamespace(_sync_task=task), SimpleNamespace(sender_task=task)
    producer, relay, one = SimpleNamespace(client=client, _sender=sender), relay_to(leader), row()
    leading = asyncio.create_task(relay._publish_forever(cast(Any, leader), cast(Any, producer)))
    await come_down()
    assert relay._in_flight
    relay._in_flight.acknowledged[one.order_id, one.sequence] = one
    leading.cancel()
    await asyncio.wait([leading])
    assert leader.marked[-1] == [one.order_id]
    assert relay._in_flight is None


async def test_who_takes_the_lead_asks_who_leads_the_partitions_before_it_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its producer has waited since, and may know a broker that stands still as their leader."""
    done: list[str] = []

    async def asked() -> None:
        done.append("asked")

    @asynccontextmanager
    async def entered(*_: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(client=SimpleNamespace(force_metadata_update=asked))

    async def publish(*_: object) -> None:
        done.append("sends")
        await asyncio.Event().wait()

    monkeypatch.setattr(Relay, "_producer", entered)
    monkeypatch.setattr(Relay, "_leadership", entered)
    monkeypatch.setattr(Relay, "_publish_forever", publish)
    leading = asyncio.create_task(Relay(Brokers([]), cast(Any, None), Admission()).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leading.cancel()
    assert done == ["asked", "sends"]
