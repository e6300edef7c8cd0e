"""Fetches that tell the broker what has changed since the last one, and are told what is new.

aiokafka names all partitions in each fetch, and reads of each, in Python, that nothing came. In a
session (KIP-227) both sides remember them. With a broker that keeps none, everything is as it was.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import consumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11

ANY_REPLICA = ANY_EPOCH = ANY_START = -1
"""What a consumer says of itself, of a partition's leader, and of the beginning of its log."""
LAST_EPOCH = 2**31 - 1

Partition = tuple[str, int]
"""Topic, and number."""


class Session(NamedTuple):
    """What one broker remembers of this consumer. Epoch 0 asks for a new session, without `id`."""

    id: int = 0
    epoch: int = 0
    offsets: Mapping[Partition, int] = {}

    def after(self, id: int, offsets: Mapping[Partition, int]) -> "Session":
        """What the broker remembers once it has answered so."""
        return Session(id, self.epoch % LAST_EPOCH + 1, offsets) if id else Session()


class _Fetch(FetchRequest):
    """`wanted`, as a part of `session`."""

    def __init__(
        self, wanted: FetchRequest, session: Session, offsets: Mapping[Partition, int]
    ) -> None:
        self._wanted = wanted
        self._session = session
        self._offsets = offsets

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is not FetchRequest_v11:
            return self._wanted.build(request_struct_class)
        wanted, session = self._wanted, self._session
        forgotten = defaultdict(list)
        for topic, partition in session.offsets.keys() - self._offsets.keys():
            forgotten[topic].append(partition)
        return request_struct_class(
            ANY_REPLICA,
            wanted._max_wait_ms,
            wanted._min_bytes,
            wanted._max_bytes,
            wanted._isolation_level,
            session.id,
            session.epoch,
            self._changed(),
            list(forgotten.items()),
            wanted._rack_id,
        )

    def _changed(self) -> list[tuple[str, list[tuple[int, ...]]]]:
        """Partitions that are new, or are to be read from elsewhere than the broker knows."""
        known = self._session.offsets
        changed: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for topic, partitions in self._wanted.topics:
            for partition, offset, most in partitions:
                if known.get((topic, partition)) != offset:
                    changed[topic].append((partition, ANY_EPOCH, offset, ANY_START, most))
        return list(changed.items())


class FetchSessions:
    """The sessions of a consumer's client: one with each broker, one fetch at a time."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._send = client.send
        self._sessions: dict[int, Session] = {}
        client.send = self.send

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """As the client's own. Raises what that raises."""
        if not isinstance(request, FetchRequest):
            return await self._send(node_id, request, **options)
        session = self._sessions.get(node_id, Session())
        # If no answer comes, nobody knows what the broker remembers.
        self._sessions[node_id] = Session(session.id)
        offsets = {
            (topic, partition): offset
            for topic, partitions in request.topics
            for partition, offset, _ in partitions
        }
        answer = await self._send(node_id, _Fetch(request, session, offsets), **options)
        # An error is of the session, which the broker has lost: the next fetch asks for a new one.
        if answer.API_VERSION >= FetchRequest_v11.API_VERSION and not answer.error_code:
            self._sessions[node_id] = session.after(answer.session_id, offsets)
        return answer


class _Fetcher(Fetcher):
    def _get_actions_per_node(self, assignment: Any) -> Any:
        """What to ask of which broker. aiokafka looks at each partition to find that none is free.

        A broker is free unless it has a fetch under way, or has brought what nobody has taken yet.
        """
        waits: dict[int, list[float]] = defaultdict(list)
        for partition, fetched in self._records.items():
            if wait := fetched.calculate_backoff():
                waits[self._select_read_replica(partition)].append(wait)
        brokers = {broker.nodeId for broker in self._client.cluster.brokers()}
        if brokers - self._in_flight - waits.keys():
            return super()._get_actions_per_node(assignment)
        wait = min(map(max, waits.values()), default=self._fetcher_timeout)
        return [], {}, wait, False, []


consumer.Fetcher = _Fetcher
