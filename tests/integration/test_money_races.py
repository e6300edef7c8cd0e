"""Concurrent changes of an order's money, on as many connections."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.db.pools import Database
from app.db.queries import sql
from app.resilience.quarantine import Quarantine
from app.stripe.api import Refund
from app.stripe.errors import ProviderAway
from app.stripe.events import record, settle_kept
from app.stripe.refunds import make_refund
from tests.integration.money_course import (
    TOTAL,
    Course,
    assert_conserved,
    course,
    ready,
)
from tests.integration.stripe_books import Books

ROUNDS = 8
"""Repetitions, since a race has more than one outcome."""


pytestmark = pytest.mark.usefixtures("nothing_due")


async def concurrently(*things: Awaitable[Any]) -> None:
    await asyncio.gather(*things)


async def assert_ends_conserved(one: Course) -> None:
    await one.come_to_rest()
    await assert_conserved(one)


async def test_an_event_that_comes_many_times_at_once_counts_once(database: Database) -> None:
    one, books = await ready(database)
    books.pay()
    (report,) = one.in_transit()
    took = await asyncio.gather(*(record(database, report, b"{}", "a webhook") for _ in range(5)))
    one.arrived[report.event_id] = report
    assert sum(took) == 1
    await assert_ends_conserved(one)
    assert (await one.topics()).count("payment.succeeded") == 1


async def test_of_two_payments_at_once_one_is_kept(database: Database) -> None:
    for _ in range(ROUNDS):
        one, books = await ready(database)
        second = Books(one.order_id, TOTAL, "PLN")
        one.bank.books.append(second)
        books.pay()
        second.pay()
        await concurrently(*(one.arrive(report) for report in one.in_transit()))
        await assert_ends_conserved(one)
        assert sorted((books.given, second.given)) == [0, TOTAL]
        assert await one.status() == "COMPLETED"


async def test_a_cancel_and_the_money_at_once_conserve_it(database: Database) -> None:
    for _ in range(ROUNDS):
        one, books = await ready(database)
        books.pay()
        await concurrently(one.cancel(), one.arrive(one.in_transit()[0]), one.expire())
        await assert_ends_conserved(one)
        assert (await one.status(), books.given) == ("CANCELLED", TOTAL)


async def test_the_money_counts_once_that_comes_while_its_session_is_stored(
    database: Database,
) -> None:
    for _ in range(ROUNDS):
        one = await course(database)
        await one.check_out()
        for waiting in await one.waiting():
            await one.handle(*waiting)
        (attempt,) = await one.payments()
        books = Books(one.order_id, TOTAL, "PLN", attempt["id"])
        one.bank.books.append(books)
        books.pay()
        await concurrently(one.call(), one.arrive(one.in_transit()[0]))
        await assert_ends_conserved(one)
        (payment,) = await one.payments()
        assert (payment["session_id"], await one.status()) == (books.session, "COMPLETED")


async def test_a_capture_and_the_refund_of_it_at_once_find_together(database: Database) -> None:
    """The refund names neither order nor session: the later commit has to see the other."""
    for _ in range(ROUNDS):
        one, books = await ready(database)
        books.pay()
        books.give(TOTAL)
        await concurrently(*(one.arrive(report) for report in one.in_transit()))
        await settle_kept(database, "found", Quarantine())
        (payment,) = await one.payments()
        assert (payment["captured_minor"], payment["refunded_minor"]) == (TOTAL, TOTAL)
        await assert_ends_conserved(one)


async def cancelled_after_it_was_paid(database: Database) -> tuple[Course, Books]:
    """Return a cancelled order whose refund is requested and not made yet."""
    one, books = await ready(database)
    books.pay()
    await one.cancel()
    await one.arrive(one.in_transit()[0])
    return one, books


async def test_a_refund_whose_answer_is_lost_is_made_once(database: Database) -> None:
    one, _ = await cancelled_after_it_was_paid(database)
    refund = one.bank.refund
    keys = []

    async def lose_the_answer(id: UUID, order_id: UUID, intent: str, amount: int) -> Refund:
        keys.append(id)
        answer = await refund(id, order_id, intent, amount)
        if len(keys) == 1:
            raise ProviderAway("the answer is lost")
        return answer

    one.bank.refund = lose_the_answer  # type: ignore[method-assign]
    await assert_ends_conserved(one)
    assert len(keys) == 2 and len(set(keys)) == 1
    assert (await one.topics()).count("payment.refunded") == 1


async def test_a_refund_that_two_workers_make_is_told_once(database: Database) -> None:
    """The first worker's lease expires while it waits for the answer."""
    one, books = await cancelled_after_it_was_paid(database)
    async with database.connection() as connection:
        calls = await sql.take_due_calls(connection, batch=9, lease=timedelta(0))
    (call,) = [call for call in calls if call["kind"] == "refund"]
    await concurrently(*(make_refund(database, one.bank, call) for _ in range(4)))
    await assert_ends_conserved(one)
    assert len(books.refunds) == 1
    assert (await one.topics()).count("payment.refunded") == 1
