"""Errors of aiokafka that a worker would not notice."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import consumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    CommitFailedError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata
from mode import Service

from app.kafka.coordination import Coordinator, crash_with


def coordinator(error_code: int) -> Coordinator:
    """A coordinator whose broker answers with the error."""

    async def send(*_: Any, **__: Any) -> Any:
        return OffsetFetchResponse_v3(0, [], error_code)

    made = cast(Any, Coordinator.__new__(Coordinator))
    made.group_id, made.coordinator_id = "orders", 1
    made._client = SimpleNamespace(send=send)
    made._coordinator_dead_fut = asyncio.get_running_loop().create_future()
    made._closing = asyncio.get_running_loop().create_future()
    made._commit_lock, made._coordinator_lookup_lock = asyncio.Lock(), asyncio.Lock()
    made.generation, made.member_id, made._retry_backoff_ms = 1, "a worker", 1
    return cast(Coordinator, made)


@pytest.mark.parametrize(
    ("code", "error", "is_dead"),
    [(14, GroupLoadInProgressError, False), (16, NotCoordinatorForGroupError, True)],
)
async def test_an_error_is_not_taken_for_a_group_without_offsets(
    code: int, error: type[KafkaError], is_dead: bool
) -> None:
    """It would be read from the beginning, and that be committed."""
    asked = coordinator(code)
    with pytest.raises(error):
        await asked._do_fetch_commit_offsets([SimpleNamespace(topic="order.paid", partition=0)])
    assert (asked.coordinator_id is None) is is_dead
    assert error.retriable, "aiokafka asks again"


async def test_the_last_commit_ends_without_a_coordinator() -> None:
    leaving = coordinator(0)
    leaving.coordinator_dead()
    leaving._closing.set_result(None)
    tp = TopicPartition("order.paid", 0)
    with pytest.raises(CommitFailedError):
        await leaving.commit_offsets(None, {tp: OffsetAndMetadata(7, "")})


async def test_a_group_without_offsets_has_none() -> None:
    asked = OffsetFetchRequest("orders", [("order.paid", [0])])
    assert (await coordinator(0)._send_req(asked)).topics == []


class Worker(Service):
    """Notes what it crashes of."""

    crashed_of: BaseException | None = None

    async def crash(self, reason: BaseException) -> None:
        self.crashed_of = reason


async def test_a_worker_crashes_with_a_task_that_nobody_awaits() -> None:
    worker = Worker()
    error, forever = ValueError("a bug"), asyncio.create_task(asyncio.Event().wait())

    async def fail() -> None:
        raise error

    crash_with(worker, asyncio.create_task(fail()), forever)
    await asyncio.sleep(0)
    forever.cancel()
    while worker.crashed_of is None:
        await asyncio.sleep(0)
    assert worker.crashed_of is error
    await worker.stop()


async def test_the_end_of_a_task_is_no_crash() -> None:
    worker = Worker()
    done, cancelled = (asyncio.create_task(asyncio.sleep(seconds)) for seconds in (0, 60))
    crash_with(worker, done, cancelled)
    cancelled.cancel()
    await asyncio.wait({done, cancelled})
    await asyncio.sleep(0)
    assert worker.crashed_of is None


async def test_an_error_that_waits_to_be_asked_for_crashes_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GroupCoordinator, "_push_error_to_user", lambda self, error: None)
    asked = coordinator(0)
    asked.service, error = Worker(), KafkaError("the group is not ours")
    asked._push_error_to_user(error)
    while asked.service.crashed_of is None:
        await asyncio.sleep(0)
    assert asked.service.crashed_of is error
    await asked.service.stop()


def test_consumers_have_this_coordinator() -> None:
    assert consumer.GroupCoordinator is Coordinator
