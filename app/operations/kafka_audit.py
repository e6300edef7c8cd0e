"""The audit of Kafka: the topics hold every published event, in sequence, and nothing else.

Each topic is read once, from the scope's beginning to the end that it has when its reading begins,
and every message is compared with its row in the outbox. Memory grows with the number of events:
about 200 bytes for each.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError

from app.db.connecting import READ_ONLY
from app.db.pools import Database
from app.db.queries import sql
from app.kafka.broker_access import Brokers, partition_counts
from app.kafka.messages import order_id_of_key
from app.kafka.producing import choose_partition
from app.operations.audit import BEGINNING, Finding, Scope, events_kept_since
from app.times import now, parse_time
from app.topics import EVENTS, DeadLetter

CHUNK = 1000
QUIET_SECONDS = 30
SLACK = timedelta(minutes=1)
"""A message's timestamp may be this much older than its event's `published_at`."""

IN_KAFKA, IN_SEQUENCE = "events_are_in_kafka", "events_are_in_kafka_in_sequence"
SAME, NOTHING_ELSE = "messages_are_their_events", "messages_have_events"
MEANINGS = {
    IN_KAFKA: "An event that is marked as sent is in its topic.",
    IN_SEQUENCE: "An order's event was first sent after those before it.",
    SAME: "A message is as its event is, under its order's key, or stands in dead_letter too.",
    NOTHING_ELSE: "A message is of an event, or of a dropped one, or stands in dead_letter too.",
}
"""The meaning of each invariant, by its name."""

END = 2**63 - 1
"""An offset past every message."""
MessageRef = tuple[str, int, int]
"""(Topic, partition, offset)."""


async def audit_kafka(database: Database, brokers: Brokers, scope: Scope) -> list[Finding]:
    """Return the invariants broken between PostgreSQL and Kafka.

    Raises one of AWAY, or KafkaError.
    """
    connection = await database.connect(
        command_timeout=scope.patience.total_seconds(),
        application_name="orders audit",
        **READ_ONLY,
    )
    try:
        # Without a group, so that no consumer group is left behind in Kafka; and from what is left,
        # where retention deletes what is about to be read.
        client = AIOKafkaConsumer(**brokers.client_arguments(), auto_offset_reset="earliest")
        async with client as consumer:
            return await Comparison(connection, consumer, scope).findings()
    finally:
        connection.terminate()


class Comparison:
    """One pass over the topics and the outbox; `connection` may be inside a transaction."""

    def __init__(
        self, connection: asyncpg.Connection, consumer: AIOKafkaConsumer, scope: Scope
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self._scope = scope
        self._partition_counts: Mapping[str, int] = {}
        self._broken: dict[str, list[tuple[str, str]]] = {name: [] for name in MEANINGS}
        self._counts = dict.fromkeys(MEANINGS, 0)
        self._suspects: list[tuple[str, MessageRef, str]] = []
        """Suspect messages: the invariant that each breaks, where it is, and its key."""
        self._first_sent: dict[int, int] = {}
        """The timestamp (ms) of each event's first copy in Kafka, by the event's outbox id."""

    async def findings(self) -> list[Finding]:
        """Compare topics and outbox; return what is broken. Raises one of AWAY, or KafkaError."""
        self._partition_counts = await partition_counts(self._consumer)
        until = await sql.clock(self._connection)
        topics = [record.topic_name for record in EVENTS]
        async for topic, messages in self._messages(topics):
            await self._compare(topic, messages)
        # After reading, since retention goes on meanwhile.
        await self._look_for_events(until, await self._kept_since(topics))
        await self._report_suspects()
        return [
            Finding(name, MEANINGS[name], count, self._broken[name])
            for name, count in self._counts.items()
            if count
        ]

    def _note(self, invariant: str, subject: str, detail: str) -> None:
        self._counts[invariant] += 1
        if self._counts[invariant] <= self._scope.most:
            self._broken[invariant].append((subject, detail))

    async def _compare(self, topic: str, messages: Sequence[ConsumerRecord]) -> None:
        orders = {id for one in messages if (id := order_id_of_key(one.key))}
        rows = await sql.events_of_orders(self._connection, order_ids=list(orders), topic=topic)
        events = {str(row["event_id"]): row for row in rows}
        unknown = []
        for message in messages:
            if event := events.get(_event_id(message)):
                self._first_sent.setdefault(event["id"], message.timestamp)
                if not _is_of(message, event):
                    self._suspect(SAME, message)
            else:
                unknown.append(message)
        if unknown:
            await self._suspect_unless_dropped(unknown)

    async def _suspect_unless_dropped(self, messages: Sequence[ConsumerRecord]) -> None:
        """Note messages that are of no event, unless their events may have been dropped by age."""
        # Asked after the events were: those that were gone by then are of before this time.
        kept = await events_kept_since(self._connection)
        for message in messages:
            if _occurred_at(message) >= kept:
                self._suspect(NOTHING_ELSE, message)

    def _suspect(self, invariant: str, message: ConsumerRecord) -> None:
        """Note a suspect message, if it is old enough for handlers to have dead-lettered it."""
        sent = _time(message.timestamp)
        if self._scope.since <= sent <= now() - self._scope.bound:
            ref = (message.topic, message.partition, message.offset)
            key = (message.key or b"").decode(errors="replace")
            self._suspects.append((invariant, ref, key))

    async def _report_suspects(self) -> None:
        """Report the suspect messages, except those that are in dead_letter."""
        parked: set[MessageRef] = set()
        if self._suspects:
            async for _, letters in self._messages([DeadLetter.topic_name]):
                parked |= set(map(_origin, letters))
        for invariant, ref, key in self._suspects:
            if ref not in parked:
                self._note(invariant, key, "{} {} at {}".format(*ref))

    async def _look_for_events(
        self, until: datetime, kept: Mapping[TopicPartition, datetime]
    ) -> None:
        last_sent: dict[UUID, int] = {}
        async for row in self._sent_events(until):
            sent, order_id = self._first_sent.get(row["id"]), row["order_id"]
            detail = f"{row['sequence']} {row['topic']}"
            if sent is None:
                # What is older than the retention has been deleted, so it is not missing.
                partition = choose_partition(order_id, self._partition_count(row["topic"]))
                since = kept.get(TopicPartition(row["topic"], partition), BEGINNING)
                if row["published_at"] > since + SLACK:
                    self._note(IN_KAFKA, str(order_id), detail)
                continue
            if sent < last_sent.get(order_id, 0):
                self._note(IN_SEQUENCE, str(order_id), detail)
            last_sent[order_id] = sent

    async def _sent_events(self, until: datetime) -> AsyncIterator[Any]:
        after = 0
        while rows := await sql.sent_events(
            self._connection, after=after, since=self._scope.since, until=until, batch=CHUNK
        ):
            for row in rows:
                yield row
            after = rows[-1]["id"]

    async def _kept_since(self, topics: Sequence[str]) -> Mapping[TopicPartition, datetime]:
        """Return, for partitions that have deleted messages, the time since which they keep them.

        Not by topic: a partition that few events go to may be empty while others have theirs.
        """
        partitions = self._partitions(topics)
        begins = await self._consumer.beginning_offsets(partitions)
        firsts = await self._consumer.offsets_for_times(dict.fromkeys(partitions, 0))
        return {
            tp: _time(firsts[tp].timestamp) if firsts[tp] else now()
            for tp, offset in begins.items()
            if offset
        }

    async def _messages(
        self, topics: Sequence[str]
    ) -> AsyncIterator[tuple[str, list[ConsumerRecord]]]:
        """Yield the topics' messages, in order within a partition, up to the current ends."""
        partitions = self._partitions(topics)
        self._consumer.assign(partitions)
        ends = await self._consumer.end_offsets(partitions)
        for tp, start in (await self._starts(partitions)).items():
            self._consumer.seek(tp, min(start, ends[tp]))
        quiet = 0
        while left := [one for one in partitions if await self._consumer.position(one) < ends[one]]:
            found = await self._consumer.getmany(*left, timeout_ms=1000, max_records=CHUNK)
            quiet = 0 if found else quiet + 1
            if quiet > QUIET_SECONDS:
                raise KafkaTimeoutError("Kafka gives no more of what it has")
            for tp, messages in found.items():
                yield tp.topic, messages

    async def _starts(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(partitions)
        if self._scope.since <= BEGINNING:
            return begins
        moment = int((self._scope.since - SLACK).timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, moment))
        return {one: found[one].offset if found[one] else END for one in partitions}

    def _partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [
            TopicPartition(topic, number)
            for topic in topics
            for number in range(self._partition_count(topic))
        ]

    def _partition_count(self, topic: str) -> int:
        if topic not in self._partition_counts:
            raise UnknownTopicOrPartitionError(topic)
        return self._partition_counts[topic]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _event_id(message: ConsumerRecord) -> str:
    return _header(message, "ce_id")


def _occurred_at(message: ConsumerRecord) -> datetime:
    """Return when the message's event occurred; it may have been sent much later, or again."""
    sent = _time(message.timestamp)
    try:
        return min(sent, parse_time(_header(message, "ce_time")))
    except ValueError:
        return sent


def _header(message: ConsumerRecord, name: str) -> str:
    return (dict(message.headers).get(name) or b"").decode(errors="replace")


def _is_of(message: ConsumerRecord, event: Mapping[str, Any]) -> bool:
    key, value = str(event["order_id"]).encode(), event["payload"].encode()
    return bool(message.key == key and message.value == value)


def _origin(letter: ConsumerRecord) -> MessageRef:
    """Return where the message is that a dead letter is about."""
    told = orjson.loads(letter.value)
    return told["topic"], told["partition"], told["offset"]
