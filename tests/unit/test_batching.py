"""The outcome of each request in a batch, whatever happens to the whole."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import asyncpg
import pytest

from app.db.batching import Batcher

who: ContextVar[str] = ContextVar("who", default="nobody")


class Journal:
    """Executes requests, and records how."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.alone: list[tuple[str, str]] = []
        """Requests done alone, each with its context."""
        self.together: list[tuple[Sequence[str], str]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def do_together(self, wanted: Sequence[str]) -> list[str | None]:
        """Do all requests except odd ones."""
        self.begun.set()
        await self.gate.wait()
        self.together.append((list(wanted), who.get()))
        if self.error:
            raise self.error
        return [None if one.startswith("odd") else f"{one} done" for one in wanted]

    async def do_alone(self, wanted: str) -> str:
        await self.gate.wait()
        self.alone.append((wanted, who.get()))
        if wanted == "odd and bad":
            raise ValueError(wanted)
        return f"{wanted} done alone"


def batcher(journal: Journal) -> Batcher[str, str]:
    return Batcher(journal.do_together, journal.do_alone)


async def ask(one: Batcher[str, str], wanted: str) -> str:
    """Send a request with its own context."""
    who.set(wanted)
    return await one.do(wanted)


async def concurrently(one: Batcher[str, str], *wanted: str) -> list[Any]:
    return await asyncio.gather(*(ask(one, name) for name in wanted), return_exceptions=True)


async def test_a_request_that_comes_alone_waits_for_no_company() -> None:
    journal = Journal()
    assert await ask(batcher(journal), "a") == "a done"
    assert (journal.together, journal.alone) == ([(["a"], "nobody")], [])


async def test_what_is_odd_is_done_alone_in_its_own_context() -> None:
    journal = Journal()
    answers = await concurrently(batcher(journal), "a", "odd", "b", "odd and bad")
    assert answers[:3] == ["a done", "odd done alone", "b done"]
    assert isinstance(answers[3], ValueError)
    assert journal.together == [(["a", "odd", "b", "odd and bad"], "nobody")]
    assert journal.alone == [("odd", "odd"), ("odd and bad", "odd and bad")]


@pytest.mark.parametrize(
    "error", [asyncpg.LockNotAvailableError("x"), asyncpg.UniqueViolationError("x")]
)
async def test_what_postgresql_refuses_as_a_whole_is_done_one_by_one(error: Exception) -> None:
    journal = Journal(error)
    assert await concurrently(batcher(journal), "a", "b") == ["a done alone", "b done alone"]


async def test_what_may_have_been_committed_is_not_done_again() -> None:
    journal = Journal(RuntimeError("after the commit"))
    answers = await concurrently(batcher(journal), "a", "b")
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
    assert journal.alone == []


async def test_when_postgresql_is_away_nobody_waits_behind_for_the_same_answer() -> None:
    journal = Journal(ConnectionRefusedError())
    one = batcher(journal)
    journal.gate.clear()
    first = asyncio.ensure_future(concurrently(one, *"ab"))
    await journal.begun.wait()
    others = asyncio.ensure_future(concurrently(one, *"cdef"))
    while len(one._waiting) < 4:
        await asyncio.sleep(0)
    journal.gate.set()
    answers = [*await first, *await others]
    assert [type(answer) for answer in answers] == [ConnectionRefusedError] * 6


async def test_who_has_not_begun_in_time_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.batching.TIMEOUT_SECONDS", -1.0)
    journal = Journal()
    answers = await concurrently(batcher(journal), "a", "b")
    assert [type(answer) for answer in answers] == [TimeoutError, TimeoutError]
    assert (journal.alone, journal.together) == ([], [])


async def test_who_waits_behind_what_hangs_leaves_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.batching.LOOK_SECONDS", 0.001)
    journal = Journal()
    journal.gate.clear()
    one = batcher(journal)
    hanging = asyncio.create_task(ask(one, "first"))
    await journal.begun.wait()
    monkeypatch.setattr("app.db.batching.TIMEOUT_SECONDS", 0.0)
    assert [type(answer) for answer in await concurrently(one, "a", "b")] == [TimeoutError] * 2
    journal.gate.set()
    assert await hanging == "first done"


async def test_it_is_told_how_long_a_batch_has_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    moment, waits = 100.0, []
    monkeypatch.setattr("app.db.batching.monotonic", lambda: moment)
    journal = Journal()
    one = Batcher(journal.do_together, journal.do_alone, waits.append)
    journal.gate.clear()
    first = asyncio.create_task(one.do("first"))
    await journal.begun.wait()
    later = [asyncio.create_task(one.do(name)) for name in ("second", "third")]
    await asyncio.sleep(0)
    moment += 2.5
    journal.gate.set()
    await asyncio.gather(first, *later)
    assert waits == [0.0, 2.5]
