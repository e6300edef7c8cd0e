"""What a consumer asks of which broker, with few look-ups."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4, FetchRequest_v11

from app.kafka.fetching import SparingFetcher

ZERO, ONE, TWO, THREE = (TopicPartition("order.paid", number) for number in range(4))


class Cluster:
    """Brokers 1 and 2; 2 leads partition 2, and 1 all others."""

    def __init__(self) -> None:
        self._partitions: dict[str, Any] = {}
        self.leaders: dict[TopicPartition, int | None] = {TWO: 2}
        self.asked = 0

    def brokers(self) -> list[Any]:
        return [SimpleNamespace(nodeId=1), SimpleNamespace(nodeId=2)]

    def leader_for_partition(self, tp: TopicPartition) -> int | None:
        self.asked += 1
        return self.leaders.get(tp, 1)


def at(position: int | None, resume: object = None) -> Any:
    """Return the state of a partition at `position`; it is paused if `resume` is given."""
    return SimpleNamespace(
        _position=position,
        position=position,
        has_valid_position=position is not None,
        _paused=resume is not None,
        paused=resume is not None,
        _resume_fut=resume,
        resume_fut=resume,
    )


def assigned(**states: Any) -> Any:
    """Return an assignment from `_0=at(3)` and the like."""
    by_tp = {TopicPartition("order.paid", int(name[1:])): one for name, one in states.items()}
    return SimpleNamespace(_tp_state=by_tp, tps=frozenset(by_tp), state_value=by_tp.__getitem__)


def fetcher(in_flight: set[int] = frozenset(), **untaken: float) -> Any:  # type: ignore[assignment]
    """Return a fetcher with fetches in flight, and results that may wait for those seconds."""
    fetcher: Any = SparingFetcher.__new__(SparingFetcher)
    fetcher._client = SimpleNamespace(cluster=Cluster())
    fetcher._preferred_read_replica = {}
    fetcher._in_flight = set(in_flight)
    fetcher._fetcher_timeout = 0.2
    fetcher._client_rack = None
    fetcher._max_partition_fetch_bytes = 100
    fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes, fetcher._fetch_max_bytes = 50, 1, 1000
    fetcher._isolation_level = 0
    fetcher._records = {
        TopicPartition("order.paid", int(number[1:])): SimpleNamespace(
            calculate_backoff=lambda wait=wait: wait
        )
        for number, wait in untaken.items()
    }
    return fetcher


def asks(fetcher: Any, assignment: Any) -> tuple[dict[int, Any], Any]:
    """Return what to ask by broker, as partition and offset, and all other actions."""
    fetches, *others = fetcher._get_actions_per_node(assignment)
    return {node: fetch.offsets for node, fetch in fetches}, others


def answer_of_aiokafka(fetcher: Any, assignment: Any) -> tuple[dict[int, Any], Any]:
    """Return the same, computed by aiokafka."""
    fetches, *others = Fetcher._get_actions_per_node(fetcher, assignment)
    found = {
        node: {
            TopicPartition(topic, number): offset
            for topic, tps in fetch.topics
            for number, offset, _ in tps
        }
        for node, fetch in fetches
    }
    return found, others


class Nothing:
    """An assignment that must not be accessed."""


@pytest.mark.parametrize(
    "busy, seconds",
    [
        (fetcher({1, 2}), 0.2),
        (fetcher({1}, _2=0.05), 0.05),
        (fetcher(_0=0.03, _1=0.04, _2=0.05), 0.04),
    ],
)
def test_no_partition_is_looked_at_while_every_broker_is_busy(busy: Any, seconds: float) -> None:
    assert busy._get_actions_per_node(Nothing()) == ([], {}, seconds, False, [])


@pytest.mark.parametrize(
    "free",
    [
        fetcher(),
        fetcher({1}),
        fetcher({2}),
        fetcher({1}, _2=0.0),
        fetcher(_0=0.05),
        fetcher(_0=0.0),
        fetcher(_0=0.0, _2=0.05),
    ],
)
def test_a_broker_that_is_free_is_asked_for_what_aiokafka_would_ask(free: Any) -> None:
    resume = object()
    assignment = assigned(_0=at(5), _1=at(6), _2=at(7), _3=at(8, resume))
    wanted, (resets, wait, without_leader, resumed) = asks(free, assignment)
    expected, (no_resets, until, is_lost, _) = answer_of_aiokafka(free, assignment)
    assert wanted == expected
    assert (resets, without_leader, wait) == ({}, False, until) == (no_resets, is_lost, wait)
    assert resumed == [resume]


@pytest.mark.parametrize(
    "assignment",
    [assigned(_0=at(5), _1=at(None)), assigned(_0=at(5), _1=at(None, resume=object()))],
)
def test_where_a_position_has_to_be_found_aiokafka_finds_it(assignment: Any) -> None:
    wanted, (resets, *_) = asks(fetcher(), assignment)
    assert (wanted, resets) == ({}, {1: [ONE]})


def test_where_a_leader_is_not_known_all_others_are_asked() -> None:
    lost = fetcher()
    lost._client.cluster.leaders[ONE] = -1
    wanted, (_, _, without_leader, _) = asks(lost, assigned(_0=at(5), _1=at(6)))
    assert wanted == {1: {ZERO: 5}} and without_leader


def test_a_nearer_replica_is_asked() -> None:
    near = fetcher()
    near._client.cluster.broker_metadata = lambda node: node
    near._preferred_read_replica = {ZERO: (2, float("inf"))}
    wanted, _ = asks(near, assigned(_0=at(5), _1=at(6)))
    assert wanted == {1: {ONE: 6}, 2: {ZERO: 5}}


def test_leaders_are_learnt_anew_with_the_cluster_and_the_assignment() -> None:
    sparing, assignment = fetcher(), assigned(_0=at(5), _1=at(6))
    cluster = sparing._client.cluster
    for _ in range(3):
        assert asks(sparing, assignment)[0] == {1: {ZERO: 5, ONE: 6}}
    assert cluster.asked == 2
    cluster.leaders[ONE], cluster._partitions = 2, {}
    assert asks(sparing, assignment)[0] == {1: {ZERO: 5}, 2: {ONE: 6}}
    assert asks(sparing, assigned(_0=at(5), _3=at(8)))[0] == {1: {ZERO: 5, THREE: 8}}


def test_what_is_asked_for_is_told_as_aiokafka_reads_it() -> None:
    ((_, fetch),) = fetcher()._get_actions_per_node(assigned(_0=at(5), _1=at(6)))[0]
    assert isinstance(fetch, FetchRequest)
    assert fetch.topics == [("order.paid", [(0, 5, 100), (1, 6, 100)])]
    fetch.note_answer([ONE])
    assert fetch.topics == [("order.paid", [(1, 6, 100)])]
    fetch.note_answer([])
    assert fetch.topics == []


def test_a_fetch_without_a_session_is_aiokafka_s_own() -> None:
    ((_, fetch),) = fetcher()._get_actions_per_node(assigned(_0=at(5)))[0]
    usual = FetchRequest(50, 1, 1000, 0, [("order.paid", [(0, 5, 100)])])
    for version in (FetchRequest_v11, FetchRequest_v4):
        assert fetch.build(version).encode() == usual.build(version).encode()
