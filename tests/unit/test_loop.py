"""The agents' loop with a handler that fails in every possible way."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import time
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.exceptions import ProducerSendError

from agents import loop
from agents.commits import Batch
from agents.loop import Loop
from app.errors import BadEvent, UnknownOrder
from app.handlers import Handler
from app.kafka.decoding import Malformed
from app.topics import OrderPaid


class Journal:
    """A stand-in for Faust, PostgreSQL, table and dead_letter, which records calls in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []
        self.marked: set[tuple[int, str]] = set()
        self.attempts: list[int] = []
        self.held: list[Any] = []
        self.outages: list[Exception] = []
        self.outages_of_kafka: list[Exception] = []
        self.behind: set[int] = set()
        """The messages that wait behind a parked one of their order."""
        self.most_in_time = 1000
        """The most messages that PostgreSQL can do before the timeout."""

    @contextmanager
    def taking(self, *told: Any) -> Iterator[None]:
        self.lines.append(("take", told))
        yield
        self.lines.append(("taken", told))

    async def acknowledge(self, message: Any) -> None:
        self.lines.append(("ack", message.n))

    async def do(self, batch: Batch) -> list[Any]:
        """Commit the batch alone."""
        if len(batch.messages) > self.most_in_time:
            raise TimeoutError
        work: list[int] = []
        admitted = await batch.gate.admit(cast(Any, work), batch.messages)
        if admitted:
            await cast(Any, batch.handler.handle)(work, [message.value for message in admitted])
        self.lines.append(("commit", work))
        return admitted

    def is_marked(self, handler: str, partition: int, event_id: str) -> bool:
        return (partition, event_id) in self.marked

    def mark(self, handler: str, events: Iterable[tuple[int, str]]) -> None:
        events = list(events)
        self.marked.update(events)
        self.lines.append(("mark", len(events)))

    def remember(self, events: Iterable[tuple[int, OrderPaid]]) -> None:
        self.lines.append(("remember", [(at, event.sequence - 1) for at, event in events]))

    async def send_dead_letter(self, message: Any, handler: str, error: str, attempts: int) -> None:
        if self.outages_of_kafka:
            raise self.outages_of_kafka.pop()
        self.lines.append(("send_dead_letter", message.n))
        self.attempts.append(attempts)

    async def park(
        self, _: Any, message: Any, handler: str, error: str, attempts: int, order_id: Any
    ) -> None:
        if self.outages:
            raise self.outages.pop()
        self.lines.append(("park", message.offset))
        self.held += [order_id] if order_id else []

    def gate(self, handler: str) -> Any:
        return SimpleNamespace(
            admit=self.admit, close=lambda: self.lines.append(("close", handler))
        )

    async def admit(self, transaction: list[int], messages: list[Any]) -> list[Any]:
        return [message for message in messages if message.n not in self.behind]

    def told(self, *kinds: str) -> list[tuple[str, Any]]:
        return [line for line in self.lines if line[0] in kinds]


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    journal = Journal()
    monkeypatch.setattr(loop, "commits", journal)
    monkeypatch.setattr(loop, "Gate", journal.gate)
    for name in ("is_marked", "mark", "send_dead_letter", "park"):
        monkeypatch.setattr(loop, name, getattr(journal, name))
    return journal


def message(n: int) -> Any:
    event = OrderPaid(
        eventId=str(uuid4()),
        orderId=str(uuid4()),
        sequence=n + 1,
        occurredAt="2026-01-03T12:00:00.000000Z",
        requestId="a request",
        paymentId=str(uuid4()),
        userId=str(uuid4()),
        totalAmount=1,
        currency="PLN",
    )
    return SimpleNamespace(
        n=n,
        value=event,
        message=SimpleNamespace(topic="order.paid", partition=n % 2, offset=n, timestamp=time()),
    )


def fails(journal: Journal, decide: Callable[[int], Exception | None]) -> Loop:
    """Return a loop whose handler raises what `decide` returns for an event's number."""

    async def handle(work: list[int], events: Sequence[OrderPaid]) -> None:
        for event in events:
            if error := decide(event.sequence - 1):
                raise error
            work.append(event.sequence - 1)

    return Loop(Handler("stock.reserve", OrderPaid, cast(Any, handle)), journal.acknowledge)


async def test_a_batch_is_one_transaction_then_marks_then_acknowledgements(
    journal: Journal,
) -> None:
    messages = [message(n) for n in range(3)]
    await fails(journal, lambda n: None).process(messages)
    assert journal.lines == [
        ("commit", [0, 1, 2]),
        ("mark", 3),
        *(("ack", n) for n in (0, 1, 2)),
    ]
    assert journal.marked == {(n % 2, messages[n].value.eventId) for n in range(3)}


async def test_admission_control_is_told_since_when_how_many_wait_while_they_are_handled(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "admission", journal)
    redelivered, *fresh = messages = [message(n) for n in range(4)]
    journal.marked = {(0, redelivered.value.eventId)}
    await fails(journal, lambda n: None).process(messages)
    told = ("stock.reserve", fresh[0].message.timestamp, 3)
    assert journal.told("take", "commit", "taken") == [
        ("take", told),
        ("commit", [1, 2, 3]),
        ("taken", told),
    ]


async def test_a_table_is_written_after_the_commit_and_before_the_marks(journal: Journal) -> None:
    async def handle(work: list[int], events: Sequence[OrderPaid]) -> None:
        work += [event.sequence - 1 for event in events]

    handler = Handler("orders.both", OrderPaid, cast(Any, handle))
    both = Loop(handler, journal.acknowledge, journal.remember)
    await both.process([message(n) for n in range(2)])
    assert journal.lines == [
        ("commit", [0, 1]),
        ("remember", [(0, 0), (1, 1)]),
        ("mark", 2),
        *(("ack", n) for n in (0, 1)),
    ]


async def test_what_only_fills_a_table_needs_no_transaction(journal: Journal) -> None:
    handler = Handler("replays.remember", OrderPaid)
    table = Loop(handler, journal.acknowledge, journal.remember)
    await table.process([message(0)])
    assert journal.lines == [("remember", [(0, 0)]), ("mark", 1), ("ack", 0)]


@pytest.mark.parametrize(
    "error", [BadEvent("no"), asyncpg.DataError("no"), asyncpg.ForeignKeyViolationError("no")]
)
async def test_a_bad_message_is_found_and_its_neighbours_are_handled(
    journal: Journal, error: Exception
) -> None:
    await fails(journal, lambda n: error if n == 1 else None).process(
        [message(n) for n in range(4)]
    )
    assert journal.told("commit", "send_dead_letter") == [
        ("commit", [0]),
        ("send_dead_letter", 1),
        ("commit", [2]),
        ("commit", [3]),
    ]
    assert journal.told("ack") == [("ack", n) for n in range(4)]
    assert journal.attempts == [2], "once with its neighbours, once alone"


async def test_a_bad_message_that_came_alone_was_tried_once(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    await fails(journal, lambda n: BadEvent("no")).process([message(0)])
    assert journal.told("send_dead_letter", "park", "ack") == [
        ("send_dead_letter", 0),
        ("park", 0),
        ("ack", 0),
    ]
    assert journal.attempts == [1]
    [line] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert vars(line)["request_id"] == "a request"


async def test_a_bad_message_is_buried_once_while_servers_are_away(journal: Journal) -> None:
    starting = asyncpg.CannotConnectNowError("starting up")
    journal.outages = [ConnectionRefusedError(), starting, TimeoutError()]
    journal.outages_of_kafka = [KafkaTimeoutError(), ProducerSendError("no room")]
    await fails(journal, lambda n: BadEvent("no")).process([message(0)])
    assert journal.told("send_dead_letter", "park", "ack") == [
        ("send_dead_letter", 0),
        ("park", 0),
        ("ack", 0),
    ]


async def test_what_is_parked_holds_its_order_up(journal: Journal) -> None:
    bad = message(0)
    await fails(journal, lambda n: BadEvent("no")).process([bad])
    assert journal.lines[0] == ("close", "stock.reserve")
    assert journal.held == [UUID(bad.value.orderId)]


@pytest.mark.parametrize("error", [UnknownOrder("no"), asyncpg.ForeignKeyViolationError("no")])
async def test_what_speaks_of_no_order_holds_nothing_up(journal: Journal, error: Exception) -> None:
    unread = message(1)
    unread.value = Malformed("not JSON")
    await fails(journal, lambda n: error).process([message(0), unread])
    assert [n for _, n in journal.told("park")] == [1, 0]
    assert not journal.held and not journal.told("close")


async def test_what_comes_behind_a_parked_message_is_acknowledged_unhandled(
    journal: Journal,
) -> None:
    journal.behind = {1}
    await fails(journal, lambda n: None).process([message(n) for n in range(3)])
    assert journal.told("commit", "ack") == [("commit", [0, 2]), *(("ack", n) for n in range(3))]
    assert len(journal.marked) == 2


async def test_what_could_not_be_read_is_put_aside(journal: Journal) -> None:
    good, bad = message(0), message(1)
    bad.value = Malformed("not JSON")
    await fails(journal, lambda n: None).process([bad, good])
    assert journal.told("send_dead_letter", "commit", "ack") == [
        ("send_dead_letter", 1),
        ("commit", [0]),
        ("ack", 1),
        ("ack", 0),
    ]


async def test_what_is_away_is_waited_for_and_buries_nothing(journal: Journal) -> None:
    outages = [ConnectionRefusedError(), asyncpg.CannotConnectNowError("starting up")]
    await fails(journal, lambda n: outages.pop() if outages else None).process([message(0)])
    assert journal.told("commit", "send_dead_letter", "ack") == [("commit", [0]), ("ack", 0)]


async def test_what_takes_too_long_is_done_in_parts_and_in_order(journal: Journal) -> None:
    journal.most_in_time = 2
    await fails(journal, lambda n: None).process([message(n) for n in range(5)])
    assert journal.told("commit", "ack") == [
        ("commit", [0, 1]),
        ("commit", [2]),
        ("commit", [3, 4]),
        *(("ack", n) for n in range(5)),
    ]


async def test_a_timeout_of_a_message_that_is_alone_is_waited_out(journal: Journal) -> None:
    outages = [TimeoutError()]
    await fails(journal, lambda n: outages.pop() if outages else None).process([message(0)])
    assert journal.told("commit", "ack") == [("commit", [0]), ("ack", 0)]


async def test_a_bug_leaves_the_whole_batch_unacknowledged_and_names_the_message(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    bug = fails(journal, lambda n: RuntimeError("a bug") if n == 1 else None)
    with pytest.raises(RuntimeError):
        await bug.process([message(n) for n in range(3)])
    assert journal.lines == [("commit", [0]), ("mark", 1)]
    [line] = [one for one in caplog.records if one.levelname == "CRITICAL"]
    assert "order.paid/1@1" in line.getMessage() and "a bug" in line.getMessage()
    assert vars(line)["request_id"] == "a request"


async def test_a_redelivered_event_is_only_acknowledged(journal: Journal) -> None:
    once = message(0)
    handler = fails(journal, lambda n: None)
    await handler.process([once])
    await handler.process([once, message(1)])
    assert journal.told("commit") == [("commit", [0]), ("commit", [1])]
    assert journal.told("ack") == [("ack", 0), ("ack", 0), ("ack", 1)]
