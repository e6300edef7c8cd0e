"""Expiry of orders with an open checkout, with many workers, and with Stripe unreachable."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import checkout
from app.db.pools import Database
from app.db.rows import CallKind
from app.expiry import RETRY_AFTER, expire_due
from app.logs import WithRequestId
from app.money.settle import call_for
from app.stripe import calls
from app.stripe.api import NOT_CONFIGURED, UnconfiguredStripe
from app.stripe.calls import Calls
from app.stripe.errors import ProviderAway, ProviderRefused
from app.times import now
from tests.integration.hops import ANN
from tests.integration.money_course import (
    LATE,
    Course,
    assert_conserved,
    course,
    overdue,
    ready,
)

pytestmark = pytest.mark.usefixtures("nothing_due")


async def due_at(one: Course) -> Any:
    (row,) = await one.fetch("select due_at from order_deadlines where order_id = $1")
    return row["due_at"]


async def asked(database: Database) -> Course:
    """Return a course whose checkout waits for a call of Stripe."""
    one = await course(database)
    await one.check_out()
    await one.handle_all()
    return one


async def lose_an_answer(one: Course) -> None:
    """Let Stripe open the session while its answer is lost."""
    create = one.bank.create_session

    async def answer_is_lost(wanted: Any) -> Any:
        await create(wanted)
        raise ProviderAway("no answer")

    one.bank.create_session = answer_is_lost  # type: ignore[method-assign]
    assert await one.call() == 1
    one.bank.create_session = create  # type: ignore[method-assign]


async def test_the_deadline_moves_to_the_end_of_the_checkout(database: Database) -> None:
    one = await course(database)
    async with database.connection() as connection:
        await connection.execute(
            "update order_deadlines set due_at = now() + interval '1 minute' where order_id = $1",
            one.order_id,
        )
    await one.check_out()
    (payment,) = await one.payments()
    assert payment["expires_at"] == await due_at(one) > now() + timedelta(minutes=30)
    assert await expire_due(database, now() + timedelta(minutes=5)) == 0


async def lasting_longer_than_a_checkout(database: Database) -> Course:
    """Return the course of an order that may stay unpaid for three days."""
    one = await course(database)
    await one.fetch(
        "update order_deadlines set due_at = now() + interval '3 days' where order_id = $1"
    )
    return one


async def test_an_order_ends_with_its_open_checkout_though_no_webhook_comes(
    database: Database,
) -> None:
    one = await lasting_longer_than_a_checkout(database)
    before = await due_at(one)
    await one.check_out()
    assert await due_at(one) == before, "Stripe may refuse the checkout"
    await one.handle_all()
    assert await one.call() == 1
    (payment,) = await one.payments()
    assert await due_at(one) == payment["expires_at"] < before
    assert await one.call() == 0
    (books,) = one.bank.books
    books.expire()
    books.reports.clear()
    await expire_due(database, payment["expires_at"])
    assert await one.call() == 1
    await one.handle_all()
    assert await one.status() == "CANCELLED"


async def test_a_checkout_that_stripe_refuses_does_not_shorten_the_order_s_life(
    database: Database,
) -> None:
    one = await lasting_longer_than_a_checkout(database)
    before = await due_at(one)
    await one.check_out()
    await one.handle_all()
    one.calls = Calls(database, UnconfiguredStripe())
    assert await one.call() == 1
    assert [row["status"] for row in await one.payments()] == ["FAILED"]
    assert (await one.status(), await due_at(one)) == ("CREATED", before)


async def test_an_open_checkout_does_not_lengthen_the_order_s_life(database: Database) -> None:
    one = await course(database)
    await one.check_out()
    before = await due_at(one)
    await one.handle_all()
    assert await one.call() == 1
    assert await due_at(one) == before


async def test_an_open_checkout_ends_first_whoever_of_many_workers_comes(
    database: Database,
) -> None:
    courses = [(await ready(database))[0] for _ in range(12)]
    moment = now() + LATE

    async def expire() -> None:
        while await expire_due(database, moment, 3):
            pass

    await asyncio.gather(*(expire() for _ in range(4)))
    assert {await one.status() for one in courses} == {"CREATED"}
    asked: list[str] = []

    class Bank:
        """Finds the session's books among all courses."""

        async def expire_session(self, session_id: str) -> Any:
            asked.append(session_id)
            (bank,) = [one.bank for one in courses if one.bank.books[0].session == session_id]
            return await bank.expire_session(session_id)

    workers = [Calls(database, Bank()) for _ in range(3)]  # type: ignore[arg-type]
    started = await asyncio.gather(*(worker.start_due() for worker in workers))
    await asyncio.gather(*(task for tasks in started for task in tasks))
    assert len(asked) == len(set(asked)) == 12, "each session is closed once"
    for one in courses:
        await one.handle_all()
        assert await one.topics() == [
            *("order.created", "order.checkout_requested", "payment.failed", "order.cancelled")
        ]
        (row,) = await one.fetch("select cancel_reason from orders where id = $1")
        assert row["cancel_reason"] == "expired"


async def test_while_stripe_is_away_the_order_waits(database: Database) -> None:
    one, books = await ready(database)
    moment = now() + LATE
    await expire_due(database, moment)
    assert await due_at(one) == moment + RETRY_AFTER
    expire_session = one.bank.expire_session

    async def away(session_id: str) -> Any:
        raise ProviderAway("no answer")

    one.bank.expire_session = away  # type: ignore[method-assign]
    assert await one.call() == 1
    await expire_due(database, moment + RETRY_AFTER)
    assert (await one.status(), books.status) == ("CREATED", "open")
    one.bank.expire_session = expire_session  # type: ignore[method-assign]
    await one.come_to_rest()
    assert (await one.status(), books.status) == ("CANCELLED", "expired")


async def test_a_session_that_is_complete_is_decided_by_its_webhook(database: Database) -> None:
    one, books = await ready(database)
    books.pay()
    await expire_due(database, now() + LATE)
    await one.call()
    assert await one.status() == "CREATED"
    await one.come_to_rest()
    assert await one.status() == "COMPLETED"
    await assert_conserved(one)


async def test_a_checkout_that_stripe_has_not_opened_keeps_no_order(database: Database) -> None:
    one = await course(database)
    await one.check_out()
    await expire_due(database, now() + LATE)
    assert await one.status() == "CANCELLED"
    await one.handle_all()
    await one.call()
    assert one.bank.books == []
    assert [row["status"] for row in await one.payments()] == ["VOIDED"]


async def test_a_worker_waits_for_few_answers_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "AT_ONCE", 2)
    one, *_ = [await asked(database) for _ in range(3)]
    create, answers = one.bank.create_session, asyncio.Event()

    async def answer_late(wanted: Any) -> Any:
        await answers.wait()
        return await create(wanted)

    one.bank.create_session = answer_late  # type: ignore[method-assign]
    started = await one.calls.start_due()
    assert (len(started), await one.calls.start_due()) == (2, [])
    answers.set()
    await asyncio.gather(*started)
    (last,) = await one.calls.start_due()
    await last


async def test_a_call_whose_worker_died_is_made_by_another_when_its_lease_is_over(
    database: Database,
) -> None:
    one = await asked(database)
    create, begun = one.bank.create_session, asyncio.Event()

    async def hang(wanted: Any) -> Any:
        await create(wanted)
        begun.set()
        await asyncio.Event().wait()

    one.bank.create_session = hang  # type: ignore[method-assign]
    (lost,) = await one.calls.start_due()
    await begun.wait()
    lost.cancel()
    one.bank.create_session = create  # type: ignore[method-assign]
    other = Calls(database, one.bank)
    assert await other.start_due() == [], "it is leased"
    assert await one.call() == 1
    assert len(one.bank.books) == 1
    assert (await one.payments())[0]["session_id"] == one.bank.books[0].session


async def test_a_session_that_nobody_heard_of_is_closed_when_its_order_is_cancelled(
    database: Database,
) -> None:
    one = await asked(database)
    await lose_an_answer(one)
    await one.cancel()
    await one.handle_all()
    while await one.call():
        pass
    assert [books.status for books in one.bank.books] == ["expired"]
    assert [row["status"] for row in await one.payments()] == ["VOIDED"]


async def test_stripe_is_asked_again_for_what_it_was_asked_first(database: Database) -> None:
    one = await asked(database)
    await lose_an_answer(one)
    async with database.connection() as connection:
        await connection.execute("update products set name = name || ' of another name'")
    one.bank.return_urls = "http://other.example/paid", "http://other.example/left"
    assert await one.call() == 1
    (payment,) = await one.payments()
    assert (payment["status"], payment["session_id"]) == ("PENDING", one.bank.books[0].session)


async def test_what_is_logged_of_a_call_tells_the_request_that_it_came_from(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(WithRequestId())
    one = await asked(database)
    one.calls = Calls(database, UnconfiguredStripe())
    assert await one.call() == 1
    (told,) = [record for record in caplog.records if "refuses a checkout" in record.message]
    assert getattr(told, "request_id", None) == "check out"


@pytest.mark.parametrize(
    ("kind", "is_done", "is_made_again"),
    [
        ("expire", True, True),
        ("expire", False, False),
        ("session", True, False),
        ("refund", True, False),
    ],
)
async def test_only_a_finished_call_that_closes_a_session_is_noted_again(
    database: Database, kind: CallKind, is_done: bool, is_made_again: bool
) -> None:
    """A call under way keeps its wait, and money is not sent back a second time."""
    one = await asked(database)
    (payment,) = await one.payments()

    async def note() -> None:
        async with database.transaction() as transaction:
            call_for(transaction, kind, one.order_id, payment["id"], "a request")

    await one.fetch("delete from provider_calls where order_id = $1")
    await note()
    ended = "now()" if is_done else "null"
    await one.fetch(
        "update provider_calls set attempts = 3, due_at = 'infinity',"
        f" done_at = {ended} where order_id = $1"
    )
    await note()
    (call,) = await one.fetch(
        "select attempts, due_at < 'infinity' as is_due, done_at is null as is_open"
        " from provider_calls where order_id = $1"
    )
    assert tuple(call) == ((0, True, True) if is_made_again else (3, False, not is_done))


async def test_a_call_is_overdue_from_the_second_try_until_it_is_answered(
    database: Database,
) -> None:
    one = await asked(database)
    create_session = one.bank.create_session

    async def away(wanted: Any) -> Any:
        raise ProviderAway("no answer")

    one.bank.create_session = away  # type: ignore[method-assign]
    assert await overdue(database) == 0
    for _ in range(2):
        await one.call()
    assert await overdue(database) == 1
    one.bank.create_session = create_session  # type: ignore[method-assign]
    await one.call()
    assert await overdue(database) == 0


async def test_a_call_that_nobody_makes_is_overdue(database: Database) -> None:
    one = await asked(database)
    await one.fetch("update provider_calls set due_at = now() - interval '6 s' where order_id = $1")
    assert await overdue(database) == 1
    for task in await one.calls.start_due():
        await task
    assert await overdue(database) == 0


async def test_a_session_is_closed_once_stripe_takes_the_key_again(database: Database) -> None:
    one, books = await ready(database)
    await one.cancel()
    await one.handle_all()
    expire_session = one.bank.expire_session

    async def stranger(session_id: str) -> Any:
        raise ProviderRefused(NOT_CONFIGURED, "Invalid API Key provided")

    one.bank.expire_session = stranger  # type: ignore[method-assign]
    assert await one.call() == 1
    one.bank.expire_session = expire_session  # type: ignore[method-assign]
    assert await one.call() == 1
    assert books.status == "expired"
    assert await one.call() == 0


async def test_without_a_key_a_checkout_fails_and_what_is_owed_waits(database: Database) -> None:
    one = await asked(database)
    one.calls = Calls(database, UnconfiguredStripe())
    await one.call()
    (failed,) = await one.payments()
    assert (failed["status"], failed["failure_reason"]) == ("FAILED", "Stripe is not configured")
    paid, books = await ready(database)
    books.pay()
    await paid.cancel()
    for report in books.reports:
        await paid.arrive(report)
    paid.calls = Calls(database, UnconfiguredStripe())
    for _ in range(7):
        await paid.call()
    assert (await paid.payments())[0]["status"] == "REFUNDING"
    paid.calls = Calls(database, paid.bank)
    await paid.come_to_rest()
    await assert_conserved(paid)


async def test_a_cancelled_order_has_no_page_though_its_session_is_still_open(
    database: Database,
) -> None:
    opened, waits = (await ready(database))[0], await asked(database)
    told = await checkout.status(database, ANN, opened.order_id)
    assert (told["status"], bool(told["checkoutUrl"])) == ("READY", True)
    for one in (opened, waits):
        await one.cancel()
        told = await checkout.status(database, ANN, one.order_id)
        assert (told["status"], told["checkoutUrl"]) == ("EXPIRED", None)
        assert [row["status"] for row in await one.payments()] == ["PENDING"]


async def test_the_live_checkout_is_shown_whatever_workers_clocks_say(database: Database) -> None:
    """The first attempt was made by a worker whose clock is an hour ahead."""
    one = await asked(database)
    bank, one.calls = one.calls, Calls(database, UnconfiguredStripe())
    assert await one.call() == 1
    await one.fetch(
        "update payments set created_at = created_at + interval '1 hour' where order_id = $1"
    )
    assert (await checkout.status(database, ANN, one.order_id))["status"] == "FAILED"
    one.calls = bank
    await one.check_out()
    assert (await checkout.status(database, ANN, one.order_id))["status"] == "REQUESTED"
    await one.handle_all()
    await one.call()
    assert (await checkout.status(database, ANN, one.order_id))["status"] == "READY"


async def test_calls_are_due_by_postgresqls_clock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that notes them has a clock that is an hour ahead."""
    one, books = await ready(database)
    for name, module in list(sys.modules.items()):
        if name.startswith("app.") and getattr(module, "now", None) is now:
            monkeypatch.setattr(module, "now", lambda: datetime.now(UTC) + LATE)
    await one.cancel()
    await one.handle_all()
    (closing,) = await one.calls.start_due()
    await closing
    assert books.status == "expired"
