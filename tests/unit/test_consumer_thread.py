"""Kafka's client in the worker's event loop: where it reads on, what it commits, how it stops."""

import asyncio
import logging
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, OffsetResetStrategy
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from app import app
from app.kafka.client import ConsumerThread
from app.kafka.consumer import _Consumer, _Producer

PAID, OTHER = TP("order.paid", 0), TP("order.paid", 1)


def test_the_assigned_partitions_are_those_of_the_latest_assignment() -> None:
    thread: Any = ConsumerThread.__new__(ConsumerThread)
    client = SimpleNamespace(assigned=frozenset({TopicPartition("order.paid", 0)}))
    thread._consumer = SimpleNamespace(assignment=lambda: client.assigned)
    assert thread.assignment() == {PAID}
    assert thread.assignment() is thread.assignment(), "made once"
    client.assigned = frozenset({TopicPartition("order.paid", 1)})
    assert thread.assignment() == {OTHER}
    assert all(isinstance(tp, TP) for tp in thread.assignment())


def thread_with(committed: dict[TopicPartition, int | None]) -> Any:
    """Return a consumer's thread with those committed offsets, whose broker never answers."""
    subscription = SubscriptionState()
    subscription.assign_from_user(set(committed))
    fetcher: Any = Fetcher.__new__(Fetcher)
    fetcher._subscriptions, fetcher._records, fetcher._wait_consume_future = subscription, {}, None

    async def known(tps: Any) -> dict[TopicPartition, Any]:
        offsets = {tp: committed[tp] for tp in tps}
        return {tp: SimpleNamespace(offset=-1 if at is None else at) for tp, at in offsets.items()}

    client: Any = AIOKafkaConsumer.__new__(AIOKafkaConsumer)
    client._closed, client._request_timeout_ms = True, 60_000
    client._subscription, client._fetcher = subscription, fetcher
    client._coordinator = SimpleNamespace(fetch_committed_offsets=known)
    thread: Any = ConsumerThread.__new__(ConsumerThread)
    thread._consumer = client
    thread.app = SimpleNamespace(tables=SimpleNamespace(changelog_topics={"a changelog"}))
    return thread


async def test_a_partition_that_nobody_leads_is_read_from_its_beginning_and_not_waited_for() -> (
    None
):
    """The recovery would time out, begin again, and never let the other partitions be read."""
    fresh, known, changelog = (
        TopicPartition(topic, 0) for topic in ("order.paid", "order.created", "a changelog")
    )
    thread = thread_with({fresh: None, known: 7, changelog: None})
    states = thread._consumer._subscription.subscription.assignment._tp_state
    for state in states.values():
        state.seek(5)
    thread._consumer._fetcher._records[fresh] = "what was fetched from the old position"
    found = await asyncio.wait_for(thread.seek_to_committed(), 5)
    assert found == {fresh: None, known: 7, changelog: None}
    assert (states[known].position, states[changelog].position) == (7, 5)
    assert not states[fresh].has_valid_position, "so nothing is fetched from the old one"
    assert states[fresh].reset_strategy == OffsetResetStrategy.EARLIEST
    assert thread._consumer._fetcher._records == {}


@pytest.mark.parametrize(
    ("part", "waits"),
    [
        (ConsumerThread, "aiokafka.AIOKafkaConsumer.stop"),
        (_Consumer, "faust.transport.drivers.aiokafka.Consumer.on_stop"),
        (_Producer, "faust.transport.drivers.aiokafka.Producer.on_stop"),
    ],
)
async def test_a_kafka_that_stands_still_does_not_keep_a_worker_from_stopping(
    part: type[Any], waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def wait(_: object) -> None:
        with suppress(asyncio.CancelledError):  # Faust swallows one while it commits
            await answered.wait()
        await answered.wait()

    for module in ("client", "consumer"):
        monkeypatch.setattr(f"app.kafka.{module}.STOP_SECONDS", 0)
    monkeypatch.setattr(waits, wait)
    stopping = part.__new__(part)
    stopping._consumer = AIOKafkaConsumer.__new__(AIOKafkaConsumer)
    stopping._consumer._closed = True
    await asyncio.wait_for(stopping.on_stop(), 5)
    answered.set()


async def test_an_error_of_the_last_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("faust.transport.drivers.aiokafka.Consumer.on_stop", fail)
    with pytest.raises(ValueError, match="a bug"):
        await _Consumer.__new__(_Consumer).on_stop()


@pytest.mark.parametrize("is_being_reset", [False, True])
async def test_a_partition_of_which_nothing_comes_is_neither_an_error_nor_a_crash(
    is_being_reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """After minutes without news of it, while Faust looks whether all partitions go on."""
    tp = TopicPartition(*PAID)
    thread = thread_with({tp: None})
    if is_being_reset:
        thread._consumer._subscription.subscription.assignment.state_value(tp).timestamp = 500
        thread._consumer._fetcher.request_offset_reset({tp}, OffsetResetStrategy.EARLIEST)
    consumer: Any = app._new_consumer()
    consumer._thread = thread
    thread.consumer, thread.time_started, thread.log = consumer, -3600.0, consumer.log
    thread.tp_fetch_request_timeout_secs = 300.0
    await consumer.verify_all_partitions_active()
    consumer.verify_recovery_event_path(0.0, PAID)
    assert not caplog.records


async def test_where_all_partitions_have_moved_away_nothing_is_committed() -> None:
    """aiokafka refuses to commit nothing, of which Faust would end the worker."""
    thread, crashed_of = thread_with({TopicPartition(*OTHER): None}), []
    thread._consumer._group_id = "orders"

    async def crash(reason: BaseException) -> None:
        crashed_of.append(reason)

    thread.crash, thread.log = crash, logging.getLogger(__name__)
    thread.tp_last_committed_at = {}
    assert not await thread._commit({PAID: 3})
    assert not crashed_of


async def test_what_is_still_assigned_is_committed() -> None:
    thread, committed = thread_with({TopicPartition(*OTHER): None}), {}

    async def commit(offsets: dict[TopicPartition, Any]) -> None:
        committed.update({tp: one.offset for tp, one in offsets.items()})

    thread._consumer.commit, thread.tp_last_committed_at = commit, {}
    assert await thread._commit({PAID: 3, OTHER: 4})
    assert committed == {OTHER: 4}
