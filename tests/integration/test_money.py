"""An order's money in PostgreSQL, whatever Stripe reports: none is lost or refunded twice."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from app import payments
from app.db.pools import Database
from app.db.transaction import Transaction
from app.stripe.api import Refund
from app.stripe.errors import ProviderRefused
from tests.integration.money_course import (
    TOTAL,
    Course,
    assert_audited,
    assert_conserved,
    course,
    overdue,
    ready,
)
from tests.integration.stripe_books import Books

pytestmark = pytest.mark.usefixtures("nothing_due")

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
CALLS = "select subject_id, due_at, done_at from provider_calls where order_id = $1 order by 1"
DISPUTED = "The payment is disputed"
EXPIRY = "The checkout expired"


async def test_a_checkout_that_is_paid_completes_its_order(database: Database) -> None:
    one, books = await ready(database)
    books.pay()
    await one.come_to_rest()
    assert await one.topics() == [
        *("order.created", "order.checkout_requested", "payment.succeeded", "order.paid"),
        *("inventory.reserved", "order.completed"),
    ]
    await assert_conserved(one)
    (kept,) = await one.payments()
    assert kept["updated_at"] > kept["created_at"]


async def test_the_same_event_again_changes_nothing(database: Database) -> None:
    one, books = await ready(database)
    books.pay()
    await one.come_to_rest()
    before = await one.topics(), [dict(row) for row in await one.payments()]
    for report in books.reports:
        await one.arrive(report)
    assert (await one.topics(), [dict(row) for row in await one.payments()]) == before


async def test_money_that_comes_before_its_session_is_stored_counts(database: Database) -> None:
    one = await course(database)
    await one.check_out()
    (attempt,) = await one.payments()
    books = Books(one.order_id, TOTAL, "PLN", attempt["id"])
    books.pay()
    await one.arrive(books.reports[0])
    (paid,) = await one.payments()
    assert (paid["status"], paid["session_id"]) == ("SUCCEEDED", books.session)
    one.bank.books.append(books)
    await one.come_to_rest()
    await assert_conserved(one)


@pytest.mark.parametrize(
    ("amount", "currency", "reason"),
    [
        (TOTAL - 1, "PLN", "Incorrect amount"),
        (TOTAL + 1, "PLN", "Incorrect amount"),
        (TOTAL, "EUR", "Incorrect currency"),
    ],
)
async def test_wrong_money_cancels_the_order_and_is_refunded(
    database: Database, amount: int, currency: str, reason: str
) -> None:
    one, books = await ready(database)
    books.amount, books.currency = amount, currency
    books.pay()
    await one.come_to_rest()
    await assert_conserved(one)
    assert (await one.topics())[2:] == [
        *("order.cancelled", "payment.refund_requested", "payment.refunded")
    ]
    (row,) = await one.fetch("select cancel_reason from orders where id = $1")
    assert row["cancel_reason"] == reason


@pytest.mark.parametrize(("currency", "told"), [("JPY", 9999), ("KWD", 9.999), ("ISK", 99.99)])
async def test_money_that_is_refunded_is_told_in_the_units_of_its_currency(
    database: Database, currency: str, told: float
) -> None:
    one, books = await ready(database)
    books.currency = currency
    books.pay()
    await one.come_to_rest()
    rows = await one.fetch("select topic, payload from outbox where order_id = $1")
    money = {row["topic"]: orjson.loads(row["payload"]) for row in rows}
    for topic in ("payment.refund_requested", "payment.refunded"):
        assert (money[topic]["amount"], money[topic]["currency"]) == (told, currency)
    await assert_audited(database, one.order_id)


async def test_money_after_the_cancel_is_refunded_and_the_session_is_closed(
    database: Database,
) -> None:
    one, books = await ready(database)
    await one.cancel()
    books.pay()
    await one.come_to_rest()
    await assert_conserved(one)
    assert (await one.topics()).count("payment.refunded") == 1


async def test_money_that_is_told_without_its_intent_is_refunded(database: Database) -> None:
    one, books = await ready(database)
    await one.cancel()
    books.pay()
    await one.arrive(replace(books.reports[0], payment_intent=None))
    await one.come_to_rest()
    await assert_conserved(one)
    (row,) = await one.payments()
    assert (row["status"], row["payment_intent"]) == ("REFUNDED", books.intent)
    await assert_audited(database, one.order_id)


async def test_a_cancel_closes_the_open_session(database: Database) -> None:
    one, books = await ready(database)
    await one.cancel()
    await one.come_to_rest()
    assert books.status == "expired"
    assert (await one.topics())[2:] == ["order.cancelled"]
    (row,) = await one.payments()
    assert (row["status"], row["failure_reason"]) == ("VOIDED", "The order is CANCELLED")


async def test_a_session_that_was_opened_for_a_cancelled_order_is_closed(
    database: Database,
) -> None:
    """The order is cancelled while Stripe opens the session."""
    one = await course(database)
    await one.check_out()
    for waiting in await one.waiting():
        await one.handle(*waiting)
    create = one.bank.create_session

    async def slow(wanted: Any) -> Any:
        await one.cancel()
        for waiting in await one.waiting():
            await one.handle(*waiting)
        return await create(wanted)

    one.bank.create_session = slow  # type: ignore[method-assign]
    await one.come_to_rest()
    assert one.bank.books[0].status == "expired"
    assert [row["status"] for row in await one.payments()] == ["VOIDED"]


async def pageless(database: Database, monkeypatch: pytest.MonkeyPatch) -> tuple[Course, Books]:
    """Place an order, and open its checkout; Stripe's answer has no page."""
    one = await course(database)
    await one.check_out()
    await one.handle_all()
    create = one.bank.create_session

    async def without_page(wanted: Any) -> Any:
        return replace(await create(wanted), url=None)

    monkeypatch.setattr(one.bank, "create_session", without_page)
    await one.call()
    (books,) = one.bank.books
    return one, books


async def test_a_session_is_asked_for_until_its_page_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, books = await pageless(database, monkeypatch)
    assert f"Stripe gives no page for {books.session}" in caplog.text
    await one.call()
    assert await overdue(database) == 1
    monkeypatch.undo()
    await one.call()
    (attempt,) = await one.payments()
    assert attempt["checkout_url"] == f"https://stripe.example/{books.session}"


async def test_a_session_whose_page_is_not_told_is_closed_with_its_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, books = await pageless(database, monkeypatch)
    await one.cancel()
    await one.come_to_rest()
    assert books.status == "expired"


async def test_missing_stock_gives_the_money_back(database: Database) -> None:
    one, books = await ready(database, pieces=1)
    async with database.connection() as connection:
        await connection.execute(
            "update products set available = 0 where id ="
            " (select product_id from order_items where order_id = $1)",
            one.order_id,
        )
    books.pay()
    await one.come_to_rest()
    await assert_conserved(one)
    assert (await one.topics())[-4:] == [
        *("inventory.rejected", "order.cancelled"),
        *("payment.refund_requested", "payment.refunded"),
    ]


async def test_money_that_fails_cancels_and_money_that_comes_after_all_is_refunded(
    database: Database,
) -> None:
    one, books = await ready(database)
    books.fail()
    await one.come_to_rest()
    assert await one.status() == "CANCELLED"
    books.pay()
    await one.come_to_rest()
    await assert_conserved(one)


async def test_money_that_comes_after_all_before_the_cancel_is_kept(database: Database) -> None:
    one, books = await ready(database)
    books.fail()
    books.pay()
    for report in books.reports:
        await one.arrive(report)
    await one.come_to_rest()
    assert await one.status() == "COMPLETED"
    await assert_conserved(one)


async def test_money_of_a_session_that_nobody_here_asked_for_counts(database: Database) -> None:
    one = await course(database)
    books = Books(one.order_id, TOTAL, "PLN")
    one.bank.books.append(books)
    books.pay()
    await one.come_to_rest()
    assert [(row["requested"], row["status"]) for row in await one.payments()] == [
        (False, "SUCCEEDED")
    ]
    await assert_conserved(one)


@pytest.mark.parametrize(
    ("end", "payment", "order"),
    [(Books.fail, "The payment failed", "The payment failed"), (Books.expire, EXPIRY, "expired")],
    ids=["failed", "expired"],
)
async def test_a_session_that_nobody_here_asked_for_cancels_the_order_if_it_fails(
    database: Database, end: Callable[[Books], None], payment: str, order: str
) -> None:
    one = await course(database)
    books = Books(one.order_id, TOTAL, "PLN")
    end(books)
    await one.arrive(books.reports[0])
    await one.handle_all()
    (row,) = await one.payments()
    assert (row["requested"], row["status"], row["failure_reason"]) == (False, "FAILED", payment)
    assert (await one.topics())[1:] == ["payment.failed", "order.cancelled"]
    (row,) = await one.fetch("select cancel_reason from orders where id = $1")
    assert row["cancel_reason"] == order
    await assert_audited(database, one.order_id)


@pytest.mark.parametrize("end", [Books.fail, Books.expire], ids=["failed", "expired"])
async def test_a_session_that_nobody_here_asked_for_cancels_beside_a_live_attempt_too(
    database: Database, end: Callable[[Books], None]
) -> None:
    one, ours = await ready(database)
    books = Books(one.order_id, TOTAL, "PLN")
    end(books)
    await one.arrive(books.reports[0])
    await one.come_to_rest()
    assert (await one.status(), ours.status) == ("CANCELLED", "expired")
    assert [row["status"] for row in await one.payments()] == ["VOIDED", "FAILED"]
    await assert_audited(database, one.order_id)


async def test_a_session_that_nobody_here_asked_for_may_fail_beside_money_that_came(
    database: Database,
) -> None:
    one, ours = await ready(database)
    ours.pay()
    await one.arrive(ours.reports[0])
    for end in (Books.fail, Books.expire):
        books = Books(one.order_id, TOTAL, "PLN")
        end(books)
        await one.arrive(books.reports[0])
    assert [row["status"] for row in await one.payments()] == ["SUCCEEDED", "VOIDED", "VOIDED"]
    await one.come_to_rest()
    assert await one.status() == "COMPLETED"


async def test_a_second_payment_is_refunded(database: Database) -> None:
    one, books = await ready(database)
    second = Books(one.order_id, TOTAL, "PLN")
    one.bank.books.append(second)
    books.pay()
    second.pay()
    await one.come_to_rest()
    assert (books.given, second.given) == (0, TOTAL)
    await assert_conserved(one)


async def test_a_copied_attempt_does_not_hide_the_money_of_another_session(
    database: Database,
) -> None:
    """Stripe's recovered sessions carry the metadata of those they replace."""
    one, books = await ready(database)
    second = Books(one.order_id, TOTAL, "PLN", books.attempt_id)
    books.pay()
    second.pay()
    one.bank.books.append(second)
    await one.come_to_rest()
    assert sorted((books.given, second.given)) == [0, TOTAL]
    await assert_conserved(one)


async def test_a_refused_refund_is_tried_again_then_fails_then_is_retried(
    database: Database,
) -> None:
    one, books = await ready(database)
    books.pay()
    await one.come_to_rest()
    second = Books(one.order_id, TOTAL, "PLN")
    second.pay()
    second.taken = 0  # makes Stripe refuse the refund
    one.bank.books.append(second)
    await one.come_to_rest()
    failed = next(row for row in await one.payments() if not row["requested"])
    assert (failed["status"], failed["captured_minor"]) == ("REFUND_FAILED", TOTAL)
    query = "select count(*) from refunds where payment_id = $1 and refused_reason is not null"
    async with database.connection() as connection:
        assert await connection.fetchval(query, failed["id"]) == 5
    assert not await payments.retry_refund(database, (await one.payments())[0]["id"], "operator")
    second.taken = TOTAL
    assert await payments.retry_refund(database, failed["id"], "operator")
    await one.come_to_rest()
    assert second.given == TOTAL
    await assert_conserved(one)


async def test_a_refund_waits_longer_after_each_failure_and_not_for_an_operator_s_retry(
    database: Database,
) -> None:
    waits: list[float] = []

    async def note(transaction: Transaction) -> None:
        calls = transaction.calls.values()
        waits.extend(call.wait_seconds for call in calls if call.kind == "refund")

    one, books = await ready(database)
    books.pay()
    books.taken = 0  # makes Stripe refuse the refund
    await one.cancel()
    database.after_commit = [note]
    try:
        for _ in range(2):
            await one.come_to_rest()
            assert waits == [0, 30, 120, 480, 1920]
            waits.clear()
            await payments.retry_refund(database, (await one.payments())[0]["id"], "operator")
    finally:
        database.after_commit = []


async def test_a_refund_that_fails_says_why_and_a_lost_dispute_is_closed_as_documented(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    one, books = await ready(database)
    books.pay()
    await one.cancel()

    async def disputed(*_: Any) -> Any:
        raise ProviderRefused(DISPUTED, "charge_disputed")

    one.bank.refund = disputed  # type: ignore[method-assign]
    await one.come_to_rest()
    (row,) = await one.payments()
    assert row["status"] == "REFUND_FAILED"
    (told,) = [text for text in caplog.messages if "An operator has to give back" in text]
    assert told.endswith(f"99.99 PLN of payment {row['id']} (order {one.order_id}): {DISPUTED}")
    await close_as_documented(one, row["id"])
    assert books.given == 0


async def test_a_refund_that_came_back_each_time_is_closed_as_documented(
    database: Database,
) -> None:
    """The shop has paid it back outside Stripe."""
    one, books = await ready(database)
    books.pay()
    await one.cancel()

    async def comes_back(*asked: Any) -> Refund:
        return Refund(f"re_{uuid4().hex}", "failed", asked[-1])

    one.bank.refund = comes_back  # type: ignore[method-assign]
    await one.come_to_rest()
    await close_as_documented(one, (await one.payments())[0]["id"])


async def close_as_documented(one: Course, payment_id: UUID) -> None:
    """Close a failed refund whose money went back outside Stripe; it is not asked for again."""
    assert [row["status"] for row in await one.payments()] == ["REFUND_FAILED"]
    (statement,) = re.findall("insert into provider_events .*?;", OPERATIONS.read_text(), re.DOTALL)
    async with one.database.connection() as connection:
        await connection.execute(statement.replace("PAYMENT", str(payment_id)))
    before = await one.fetch(CALLS)
    assert await payments.retry_refund(one.database, payment_id, "operator")
    (row,) = await one.payments()
    assert (row["status"], row["refunded_minor"]) == ("REFUNDED", TOTAL)
    assert (await one.topics())[-1] == "payment.refunded"
    assert await one.fetch(CALLS) == before, "Stripe is asked for nothing"
    await assert_audited(one.database, one.order_id)


async def test_a_person_s_refund_after_completion_is_told_and_changes_nothing(
    database: Database,
) -> None:
    one, books = await ready(database)
    books.pay()
    await one.come_to_rest()
    books.give(TOTAL)
    await one.come_to_rest()
    assert (await one.status(), (await one.topics())[-1]) == ("COMPLETED", "payment.refunded")
    assert (await one.payments())[0]["status"] == "SUCCEEDED"


async def test_an_order_has_one_live_attempt_whatever_its_provider(database: Database) -> None:
    one, _ = await ready(database)
    await one.pay()
    assert [row["provider"] for row in await one.payments()] == ["stripe"]
    other = await course(database)
    await other.pay()
    await other.check_out()
    assert [row["provider"] for row in await other.payments()] == ["internal"]
