"""Incremental fetches, whose cost depends on what has changed and not on the number of partitions.

aiokafka examines each partition whenever records arrive or are consumed, lists all partitions in
each fetch, and parses an empty answer for each idle one. Here partitions are not examined while all
brokers are busy, and fetch sessions (KIP-227) carry only changed partitions in requests and
answers. With a broker that does not support sessions, all partitions are listed in each fetch.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import consumer, fetcher
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11

from app.kafka.records import Records

ANY_REPLICA = ANY_EPOCH = ANY_START = -1
"""Fetch request values: the replica id of a consumer, an unknown leader epoch and log start."""
LAST_EPOCH = 2**31 - 1

NOWHERE = (None, -1)
"""The values of the leader of a partition that has none."""

Offsets = Mapping[TopicPartition, int]
"""The next offset to fetch, by partition."""


class Session(NamedTuple):
    """The fetch session with one broker, and the offsets that the broker remembers.

    Epoch 0 asks for a new session, in place of session `id` if there is one.
    """

    id: int = 0
    epoch: int = 0
    offsets: Mapping[TopicPartition, int] = {}

    def after(self, id: int, offsets: Offsets) -> "Session":
        """Return the session after an answer with session `id`; 0 means that there is none."""
        return Session(id, self.epoch % LAST_EPOCH + 1, offsets) if id else Session()


class Fetch(FetchRequest):
    """A fetch from one broker, at most `most` bytes of each partition; in a session or without."""

    def __init__(self, offsets: Offsets, most: int, *options: Any, rack_id: str) -> None:
        super().__init__(*options, [], rack_id)
        self.session: Session | None = None
        self.offsets = offsets
        self._most = most
        self._answered: Iterable[TopicPartition] | None = None

    @property
    def topics(self) -> list[tuple[str, list[tuple[int, int, int]]]]:
        """The requested partitions; once there is an answer, only those that it contains."""
        topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for tp in self.offsets if self._answered is None else self._answered:
            topics[tp.topic].append((tp.partition, self.offsets[tp], self._most))
        return list(topics.items())

    def note_answer(self, answered: Iterable[TopicPartition]) -> None:
        """Note that the answer contains these partitions only."""
        self._answered = list(answered)

    def build(self, request_struct_class: Any) -> Any:
        if self.session is None or request_struct_class is not FetchRequest_v11:
            self._topics = self.topics
            return super().build(request_struct_class)
        forgotten = defaultdict(list)
        for topic, partition in self.session.offsets.keys() - self.offsets.keys():
            forgotten[topic].append(partition)
        return request_struct_class(
            ANY_REPLICA,
            self._max_wait_ms,
            self._min_bytes,
            self._max_bytes,
            self._isolation_level,
            self.session.id,
            self.session.epoch,
            self._changed(self.session),
            list(forgotten.items()),
            self._rack_id,
        )

    def _changed(self, session: Session) -> list[tuple[str, list[tuple[int, ...]]]]:
        """Return the partitions that are new to the session or have another offset."""
        changed: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for tp, offset in self.offsets.items():
            if session.offsets.get(tp) != offset:
                entry = tp.partition, ANY_EPOCH, offset, ANY_START, self._most
                changed[tp.topic].append(entry)
        return list(changed.items())


class FetchSessions:
    """The fetch sessions of a client: one with each broker, with one fetch in flight."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._send = client.send
        self._sessions: dict[int, Session] = {}
        client.send = self.send

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Send a request; fetches use the broker's session. Raises what the client's own raises."""
        if not isinstance(request, Fetch):
            return await self._send(node_id, request, **options)
        request.session = session = self._sessions.get(node_id, Session())
        # Without an answer it is unknown what the broker remembers, so the next fetch starts anew.
        self._sessions[node_id] = Session(session.id)
        answer = await self._send(node_id, request, **options)
        if answer.API_VERSION >= FetchRequest_v11.API_VERSION:
            request.note_answer(
                TopicPartition(topic, partition[0])
                for topic, partitions in answer.topics
                for partition in partitions
            )
            # A top-level error means that the session is lost; the next fetch asks for a new one.
            if not answer.error_code:
                self._sessions[node_id] = session.after(answer.session_id, request.offsets)
        return answer


class SparingFetcher(Fetcher):
    """aiokafka's fetcher, examining partitions only when a broker is free."""

    _seen: tuple[Any, Any] = None, None
    """The assignment and the cluster metadata that `_leaders` was computed from."""
    _leaders: Mapping[TopicPartition, int | None] = {}

    def _get_actions_per_node(self, assignment: Any) -> Any:
        """Return fetches by broker, offset resets, the wait, a metadata flag, and resume futures.

        The flag says whether metadata must be refreshed, because a leader is not known.
        """
        waits: dict[int | None, list[float]] = defaultdict(list)
        for tp, fetched in self._records.items():
            if wait := fetched.calculate_backoff():
                waits[self._select_read_replica(tp)].append(wait)
        # A broker is busy while a fetch is in flight, or its records are not consumed yet.
        busy = self._in_flight | waits.keys()
        wait = min(map(max, waits.values()), default=self._fetcher_timeout)
        if all(broker.nodeId in busy for broker in self._client.cluster.brokers()):
            return [], {}, wait, False, []
        states = assignment._tp_state
        leaders = self._known_leaders(assignment)
        if not leaders or any(state._position is None for state in states.values()):
            fetches, *others = super()._get_actions_per_node(assignment)
            return [(node, self._as_fetch(one)) for node, one in fetches], *others
        wanted: dict[int | None, dict[TopicPartition, int]] = defaultdict(dict)
        for tp, state in states.items():
            if not state._paused and leaders[tp] not in busy and tp not in self._records:
                wanted[leaders[tp]][tp] = state._position
        resumed = [state._resume_fut for state in states.values() if state._paused]
        return [(node, self._fetch(one)) for node, one in wanted.items()], {}, wait, False, resumed

    def _known_leaders(self, assignment: Any) -> Mapping[TopicPartition, int | None]:
        """Return each partition's leader; empty if aiokafka itself has to choose the broker."""
        cluster = self._client.cluster
        if self._seen[0] is not assignment or self._seen[1] is not cluster._partitions:
            self._seen = assignment, cluster._partitions
            leaders = {tp: cluster.leader_for_partition(tp) for tp in assignment.tps}
            is_plain = not any(leader in NOWHERE for leader in leaders.values())
            self._leaders = leaders if is_plain else {}
        return {} if self._preferred_read_replica else self._leaders

    def _fetch(self, offsets: Offsets) -> Fetch:
        return Fetch(
            offsets,
            self._max_partition_fetch_bytes,
            self._fetch_max_wait_ms,
            self._fetch_min_bytes,
            self._fetch_max_bytes,
            self._isolation_level,
            rack_id=self._client_rack or "",
        )

    def _as_fetch(self, wanted: FetchRequest) -> Fetch:
        return self._fetch(
            {
                TopicPartition(topic, partition): offset
                for topic, partitions in wanted.topics
                for partition, offset, _ in partitions
            }
        )


consumer.Fetcher = SparingFetcher
fetcher.MemoryRecords = Records
