"""The topics are compared with the outbox; each difference is found by its name."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from app.db.pools import Database
from app.kafka.broker_access import Brokers
from app.kafka.producing import choose_partition
from app.operations.audit import Scope
from app.operations.kafka_audit import (
    IN_KAFKA,
    IN_SEQUENCE,
    MEANINGS,
    NOTHING_ELSE,
    SAME,
    Comparison,
    audit_kafka,
)
from app.outbox.relay import Relay
from app.outbox.rows import as_row, headers_of
from app.resilience.admission_control import Admission
from app.times import now, rfc3339
from app.topics import DeadLetter, OrderCancelled, OrderPaid
from tests.chaos.waiting import until
from tests.conftest import run_in_vain
from tests.integration.hops import add_product, cancel, order_of, pay

PARTITIONS = 4


@dataclass(frozen=True)
class Topics:
    """The topics' messages since the test began, and a way to send more."""

    database: Database
    brokers: Brokers
    producer: AIOKafkaProducer
    since: datetime
    connection: asyncpg.Connection

    @property
    def scope(self) -> Scope:
        return Scope(bound=timedelta(0), since=self.since)

    async def found(self, scope: Scope | None = None) -> dict[str, list[str]]:
        """Return the subjects of each broken invariant."""
        async with AIOKafkaConsumer(**self.brokers.client_arguments()) as consumer:
            pass_ = Comparison(self.connection, consumer, scope or self.scope)
            found = await pass_.findings()
        return {one.invariant: [id for id, _ in one.subjects] for one in found}

    async def put(self, row: Any, **changes: Any) -> Any:
        """Send a row's event as the relay does, with `changes`; return where it is in Kafka."""
        whole = {"key": str(row["order_id"]).encode(), "value": row["payload"].encode()}
        whole |= {"headers": headers_of(as_row(row)), **changes}
        return await self.producer.send_and_wait(row["topic"], **whole)

    async def empty(self, tp: TopicPartition) -> None:
        """Delete all messages of a partition that has had some, as its retention does."""
        await self.producer.send_and_wait(tp.topic, b"", partition=tp.partition)
        admin = AIOKafkaAdminClient(**self.brokers.client_arguments())
        await admin.start()
        try:
            await admin.delete_records({tp: RecordsToDelete(before_offset=-1)})
        finally:
            await admin.close()

    async def events(self, order_id: UUID) -> list[Any]:
        query = "select * from outbox where order_id = $1 order by sequence"
        rows: list[Any] = await self.connection.fetch(query, order_id)
        return rows


@pytest.fixture
async def topics(database: Database, brokers: Brokers) -> AsyncIterator[Topics]:
    """The topics; events left by earlier tests count as sent long ago."""
    async with database.connection() as connection:
        await connection.execute("update outbox set published_at = 'epoch'")
        # Messages of the first hour of the oldest month may be of events that are gone.
        await connection.execute("select make_outbox_partition(now() - interval '2 hours')")
        async with AIOKafkaProducer(**brokers.client_arguments()) as producer:
            yield Topics(database, brokers, producer, now(), connection)


@pytest.fixture
async def sent(topics: Topics) -> UUID:
    """A paid order, whose events the relay has sent."""
    order_id = await order_of(topics.database, {await add_product(topics.database): 1})
    await pay(topics.database, order_id)
    relay = asyncio.create_task(Relay(topics.brokers, topics.database, Admission()).run())

    async def all_are_sent() -> bool:
        return all(event["published_at"] for event in await topics.events(order_id))

    await until(all_are_sent, "the relay sends all events")
    relay.cancel()
    await asyncio.wait({relay})
    return order_id


async def test_what_the_relay_sent_is_in_order(topics: Topics, sent: UUID) -> None:
    assert await topics.found() == {}
    assert await audit_kafka(topics.database, topics.brokers, topics.scope) == []


async def test_a_second_copy_is_no_harm(topics: Topics, sent: UUID) -> None:
    for event in reversed(await topics.events(sent)):
        await topics.put(event)
    assert await topics.found() == {}


async def test_an_event_that_is_not_in_kafka_is_found(topics: Topics) -> None:
    order_id = await order_of(topics.database, {await add_product(topics.database): 1})
    await topics.connection.execute(
        "update outbox set published_at = now() where order_id = $1", order_id
    )
    assert await topics.found() == {IN_KAFKA: [str(order_id)]}


async def test_a_lost_event_is_excused_only_by_what_its_own_partition_has_deleted(
    topics: Topics,
) -> None:
    order_id = await order_of(topics.database, {await add_product(topics.database): 1})
    await cancel(topics.database, order_id)
    created, _ = await topics.events(order_id)
    await topics.put(created)
    await topics.connection.execute(
        "update outbox set published_at = now() where order_id = $1", order_id
    )
    own = choose_partition(order_id, PARTITIONS)
    await topics.empty(TopicPartition(OrderCancelled.topic_name, (own + 1) % PARTITIONS))
    assert await topics.found() == {IN_KAFKA: [str(order_id)]}
    await topics.empty(TopicPartition(OrderCancelled.topic_name, own))
    assert await topics.found() == {}


async def test_an_event_that_an_operator_has_given_up_is_not_missed(topics: Topics) -> None:
    order_id = await order_of(topics.database, {await add_product(topics.database): 1})
    await topics.connection.execute(
        "update outbox set published_at = now() where order_id = $1", order_id
    )
    await topics.connection.execute(
        """
        insert into parked_messages (
            handler, topic, partition, "offset", order_id, state, holds_order, headers, error,
            attempts, parked_at, resolved_at
        )
        select 'relay', topic, 0, id, order_id, 'DISCARDED', true, '{}', 'too large', 1, now(),
            now()
        from outbox where order_id = $1
        """,
        order_id,
    )
    assert await topics.found() == {}


async def test_a_later_event_that_was_sent_first_is_found(topics: Topics) -> None:
    order_id = await order_of(topics.database, {await add_product(topics.database): 1})
    await pay(topics.database, order_id)
    for event in reversed(await topics.events(order_id)):
        await topics.put(event, timestamp_ms=int(now().timestamp() * 1000) - event["sequence"])
    await topics.connection.execute(
        "update outbox set published_at = now() where order_id = $1", order_id
    )
    assert (await topics.found()).keys() == {IN_SEQUENCE}


@pytest.mark.parametrize("change", [{"value": b"{}"}, {"value": b"\xff"}])
async def test_a_message_that_differs_from_its_event_is_found(
    topics: Topics, sent: UUID, change: dict[str, bytes]
) -> None:
    [*_, event] = await topics.events(sent)
    await topics.put(event, **change)
    assert await topics.found() == {SAME: [str(sent)]}


async def test_a_message_of_no_event_is_found_once_it_could_have_been_parked(
    topics: Topics, sent: UUID
) -> None:
    [*_, event] = await topics.events(sent)
    await topics.put({**event, "event_id": uuid4()})
    assert await topics.found() == {NOTHING_ELSE: [str(sent)]}
    assert await topics.found(replace(topics.scope, bound=timedelta(hours=1))) == {}


LONG_BEFORE = timedelta(days=70)
"""Before the oldest month of the tests' outbox."""


async def test_a_message_whose_month_was_dropped_is_not_blamed(topics: Topics, sent: UUID) -> None:
    """It may have been sent long after its event occurred."""
    [*_, event] = await topics.events(sent)
    before = event["occurred_at"] - LONG_BEFORE
    await topics.put({**event, "event_id": uuid4(), "occurred_at": before})
    assert await topics.found() == {}


async def test_a_message_without_a_time_of_its_own_counts_from_when_it_was_sent(
    topics: Topics, sent: UUID
) -> None:
    [*_, event] = await topics.events(sent)
    moment, foreign = now() - LONG_BEFORE, {**event, "order_id": uuid4()}
    await topics.put(foreign, headers=[], timestamp_ms=int(moment.timestamp() * 1000))
    scope = replace(topics.scope, since=moment - timedelta(days=1), most=10**6)
    assert str(foreign["order_id"]) not in (await topics.found(scope)).get(NOTHING_ELSE, [])
    await topics.put(foreign, headers=[("ce_time", b"\xff")])
    assert await topics.found() == {NOTHING_ELSE: [str(foreign["order_id"])]}


async def test_a_message_that_stands_in_dead_letter_is_accounted_for(
    topics: Topics, sent: UUID
) -> None:
    [*_, event] = await topics.events(sent)
    placed = await topics.put(event, value=b"poison")
    letter = DeadLetter(
        topic=placed.topic,
        partition=placed.partition,
        offset=placed.offset,
        key=None,
        value=None,
        headers={},
        handler="stock.reserve",
        error="poison",
        attempts=1,
        occurredAt=rfc3339(now()),
    )
    await topics.producer.send_and_wait("dead_letter", letter.dumps())
    assert await topics.found() == {}


async def test_the_command_names_it_too(
    topics: Topics, sent: UUID, environment: dict[str, str]
) -> None:
    [*_, event] = await topics.events(sent)
    assert event["topic"] == OrderPaid.topic_name
    await topics.put(event, value=b"damaged")
    # A shell's number may be another than the workers', who have set it.
    environment = {**environment, "KAFKA_PARTITIONS": "2"}
    told = run_in_vain(environment, "audit", "--kafka", "--at-rest", "--days", "0.001")
    assert f"{SAME} is broken" in told
    assert str(sent) in told
    assert IN_KAFKA not in told


def test_every_invariant_has_a_break_and_a_meaning() -> None:
    assert set(MEANINGS) == {IN_KAFKA, IN_SEQUENCE, SAME, NOTHING_ELSE}
