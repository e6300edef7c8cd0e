"""The relay: what it is notified of, events that the broker refuses, and when the lead ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import REGISTRY

from app.db.pools import Database
from app.kafka import producing
from app.kafka.broker_access import Brokers
from app.operations import intervention
from app.operations.intervention import Actor
from app.outbox import in_flight
from app.outbox.relay import Relay
from app.parked import page
from app.resilience.admission_control import Admission
from tests.integration.hops import cancel, new_order

BOSS = Actor("boss@example.com", "the limit was raised", "a request")


@asynccontextmanager
async def relaying(brokers: Brokers, database: Database) -> AsyncIterator[Relay]:
    """Run a relay."""
    relay = Relay(brokers, database, Admission())
    work = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


async def leads(relay: Relay) -> None:
    """Wait until the relay has the lead."""
    async with asyncio.timeout(30):
        while relay._in_flight is None:
            await asyncio.sleep(0.05)


@pytest.fixture
async def elsewhere(database: Database, brokers: Brokers) -> AsyncIterator[Database]:
    """The pool of another worker, which does not lead."""
    elsewhere = Database(database._dsn, 2)
    relay = Relay(brokers, database, Admission())
    elsewhere.after_commit = [relay.after_commit]
    await elsewhere.open()
    yield elsewhere
    await elsewhere.close()


class Dead:
    """A producer that accepts everything and sends nothing."""

    def __init__(self) -> None:
        self.has_ended = False
        """Whether its tasks show it."""
        self.sent: list[asyncio.Future[None]] = []
        task = SimpleNamespace(done=lambda: self.has_ended)
        self._sender = SimpleNamespace(sender_task=task)
        cluster = SimpleNamespace(partitions_for_topic=lambda topic: {0})
        self.client = SimpleNamespace(
            cluster=cluster, _sync_task=task, force_metadata_update=self._update
        )

    async def _update(self) -> bool:
        return False

    async def send(self, *_: object, **__: object) -> asyncio.Future[None]:
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]


class Unreachable(Dead):
    """A producer whose machine cannot reach the brokers."""

    async def send(self, *_: object, **__: object) -> asyncio.Future[None]:
        raise KafkaConnectionError("no way")


async def published(database: Database, order_id: UUID) -> list[bool]:
    """Return whether each of the order's events is published, in sequence."""
    query = "select published_at is not null from outbox where order_id = $1 order by sequence"
    async with database.connection() as connection:
        return [row[0] for row in await connection.fetch(query, order_id)]


async def comes(database: Database, order_id: UUID, wanted: list[bool]) -> None:
    """Wait until the order's events are published as `wanted` says."""
    async with asyncio.timeout(30):
        while await published(database, order_id) != wanted:
            await asyncio.sleep(0.05)


async def nothing_is_unsent(database: Database) -> None:
    """Mark what other tests left unsent: acknowledging it would have the relay look again."""
    async with database.connection() as connection:
        await connection.execute(
            "update outbox set published_at = now() where published_at is null"
        )


async def cancelled_order(database: Database) -> UUID:
    """Return an order with two events."""
    order_id = await new_order(database)
    await cancel(database, order_id)
    return order_id


async def test_what_another_worker_commits_is_sent_as_it_is_told(
    database: Database,
    elsewhere: Database,
    brokers: Brokers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.outbox.relay.BATCH", 0)  # looks find nothing
    async with relaying(brokers, database) as leader:
        await leads(leader)
        await comes(database, await cancelled_order(elsewhere), [True, True])


async def test_what_is_too_long_to_be_told_is_looked_for_at_once(
    database: Database,
    elsewhere: Database,
    brokers: Brokers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.outbox.rows.MAX_NOTIFY_BYTES", 100)
    looked, look = asyncio.Event(), Relay._look

    async def note(relay: Relay, *arguments: Any) -> None:
        await look(relay, *arguments)
        if not relay._wake.is_set():
            looked.set()  # no further look follows at once

    monkeypatch.setattr(Relay, "_look", note)
    await nothing_is_unsent(database)
    async with relaying(brokers, database) as leader:
        await leads(leader)
        monkeypatch.setattr("app.outbox.relay.LOOK_SECONDS", 3600)
        looked.clear()
        leader._wake.set()
        await looked.wait()  # the last unprompted look
        await comes(database, await cancelled_order(elsewhere), [True, True])


async def test_an_event_that_the_broker_refuses_is_parked_and_holds_up_its_order_alone(
    database: Database, brokers: Brokers
) -> None:
    bad, other = await cancelled_order(database), await cancelled_order(database)
    refused = "orders_refused_events_total", {"topic": "order.created"}
    counted = REGISTRY.get_sample_value(*refused) or 0
    swell = "update outbox set payload = $2::json where order_id = $1 and sequence = 1"
    async with database.connection() as connection:
        query = "select payload from outbox where order_id = $1 and sequence = 1"
        payload = await connection.fetchval(query, bad)
        await connection.execute(swell, bad, payload[:-1] + f', "more": "{"x" * 2_000_000}"}}')
    async with relaying(brokers, database):
        await comes(database, other, [True, True])
        (told, _), *more = await page(database, "relay", bad, None, None, 10)
        assert not more and "MessageSizeTooLarge" in told["error"]
        assert REGISTRY.get_sample_value(*refused) == counted + 1
        assert await published(database, bad) == [False, False]
        async with database.connection() as connection:
            await connection.execute(swell, bad, payload)
        await intervention.replay(database, UUID(told["id"]), BOSS, dry_run=False)
        await comes(database, bad, [True, True, True])


async def test_a_topic_that_cannot_be_written_leaves_room_for_all_others(
    database: Database, brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.outbox.relay.BATCH", 20)
    monkeypatch.setattr(in_flight, "MAX_IN_FLIGHT", 50)
    monkeypatch.setattr(in_flight, "MAX_PER_PARTITION", 10)
    stuck = """
        insert into outbox (event_id, topic, order_id, sequence, request_id, occurred_at, payload)
        select gen_random_uuid(), 'no.such.topic', gen_random_uuid(), 1, 'r', now(), '{}'
        from generate_series(1, 200)
    """
    async with database.connection() as connection:
        await connection.execute(stuck)
        try:
            other = await cancelled_order(database)
            async with relaying(brokers, database):
                await comes(database, other, [True, True])
        finally:
            await connection.execute("delete from outbox where topic = 'no.such.topic'")


@pytest.mark.parametrize(
    ("producer", "seconds", "ends"),
    [
        (Unreachable(), {"SILENT_SECONDS": 0.5}, False),
        (Dead(), {"SILENT_SECONDS": 0.5}, False),
        (Dead(), {"STUCK_SECONDS": 0.5}, False),
        (Dead(), {}, True),
    ],
)
async def test_a_leader_that_cannot_send_gives_up_the_lead(
    database: Database,
    brokers: Brokers,
    monkeypatch: pytest.MonkeyPatch,
    producer: Dead,
    seconds: dict[str, float],
    ends: bool,
) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[object]:
        yield producer

    order_id = await cancelled_order(database)
    leader = Relay(brokers, database, Admission())
    monkeypatch.setattr(leader, "_producer", broken)
    leading = asyncio.create_task(leader.run())
    await leads(leader)
    producer.has_ended = ends
    for name, value in seconds.items():
        monkeypatch.setattr(f"app.outbox.relay.{name}", value)
    try:
        async with relaying(brokers, database):
            await comes(database, order_id, [True, True])
        assert not leading.done()
    finally:
        leading.cancel()
        with suppress(asyncio.CancelledError):
            await leading
    assert all(sent.cancelled() for sent in producer.sent)


@pytest.mark.parametrize("away", [ConnectionRefusedError(), KafkaConnectionError("no way")])
async def test_a_relay_goes_on_once_what_was_away_is_back(
    database: Database, brokers: Brokers, monkeypatch: pytest.MonkeyPatch, away: Exception
) -> None:
    outages, producer = [away], Relay._producer

    @asynccontextmanager
    async def back_later(relay: Relay) -> AsyncIterator[object]:
        if outages:
            raise outages.pop()
        async with producer(relay) as back:
            yield back

    monkeypatch.setattr(Relay, "_producer", back_later)
    order_id = await cancelled_order(database)
    async with relaying(brokers, database):
        await comes(database, order_id, [True, True])


async def test_an_event_is_acknowledged_by_all_replicas(
    database: Database, brokers: Brokers
) -> None:
    """With fewer, one that is marked as published could be lost with its broker."""
    async with Relay(brokers, database, Admission())._producer() as producer:
        assert cast(Any, producer)._sender._acks == -1


async def test_a_producer_whose_flush_hangs_does_not_run_on(
    database: Database, brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producing, "STOP_SECONDS", 0.2)
    relay = Relay(brokers, database, Admission())
    async with relay._producer() as producer:
        inside = cast(Any, producer)
        monkeypatch.setattr(inside._message_accumulator, "close", asyncio.Event().wait)
    assert inside._sender.sender_task.done()
    assert inside.client._sync_task is None


async def test_a_discarded_event_is_not_sent_and_its_order_goes_on(
    database: Database, brokers: Brokers
) -> None:
    bad = await cancelled_order(database)
    async with database.connection() as connection:
        await connection.execute(
            "update outbox set topic = 'no topic!' where order_id = $1 and sequence = 1", bad
        )
    async with relaying(brokers, database):
        async with asyncio.timeout(60):
            while not (found := await page(database, "relay", bad, None, None, 10)):
                await asyncio.sleep(0.05)
        await intervention.discard(database, UUID(found[0][0]["id"]), BOSS)
        await comes(database, bad, [True, True, True])
