"""Stripe is asked about what it has done if no webhook reports it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app import payments
from app.db.pools import Database
from app.expiry import expire_due
from app.explain import explain
from app.money.ledger import Fact
from app.stripe.api import NOT_CONFIGURED
from app.stripe.errors import ProviderAway, ProviderRefused
from app.stripe.webhook import Report
from app.times import now
from tests.integration.money_course import (
    LATE,
    TOTAL,
    Course,
    assert_audited,
    assert_conserved,
    overdue,
    ready,
)
from tests.integration.stripe_books import Books, report_of

pytestmark = pytest.mark.usefixtures("nothing_due")


def missed() -> float | None:
    """How many webhooks of sessions were missed, as Prometheus reads it."""
    return REGISTRY.get_sample_value("orders_webhooks_total", {"outcome": "missed"})


async def an_hour_later(one: Course) -> None:
    """Move the session's end so far back that its webhook should have arrived."""
    await ended(one, "61 minutes")


async def ended(one: Course, ago: str) -> None:
    """Move the session's end into the past by `ago`."""
    await one.fetch(
        f"update payments set expires_at = now() - interval '{ago}' where order_id = $1"
    )


async def paid_without_a_webhook(database: Database) -> tuple[Course, Books]:
    one, books = await ready(database)
    books.pay()
    books.reports.clear()
    return one, books


async def cancelled_after_paying(database: Database) -> tuple[Course, Books]:
    one, books = await ready(database)
    books.pay()
    for told in one.in_transit():
        await one.arrive(told)
    await one.cancel()
    await one.handle_all()
    return one, books


async def test_money_that_no_webhook_tells_of_is_found_when_it_should_have(
    database: Database,
) -> None:
    one, _ = await paid_without_a_webhook(database)
    await expire_due(database, now() + LATE)
    for _ in range(2):
        assert await one.call() == 1
    assert await one.status() == "CREATED"
    assert await overdue(database) == 0, "it may come in an hour"
    await an_hour_later(one)
    before = missed()
    assert await one.call() == 1
    assert missed() == before + 1
    await one.come_to_rest()
    assert await one.status() == "COMPLETED"
    await assert_conserved(one)


async def test_money_for_a_cancelled_order_is_refunded_though_no_webhook_tells_of_it(
    database: Database,
) -> None:
    one, books = await paid_without_a_webhook(database)
    await one.cancel()
    await one.handle_all()
    assert await one.call() == 1
    await an_hour_later(one)
    await one.come_to_rest()
    assert (await one.status(), books.given) == ("CANCELLED", books.taken)
    await assert_conserved(one)


async def test_money_is_found_however_late(database: Database) -> None:
    one, _ = await paid_without_a_webhook(database)
    await expire_due(database, now() + LATE)
    await ended(one, "40 days")
    assert await one.call() == 1
    await one.come_to_rest()
    assert await one.status() == "COMPLETED"


async def refunded_before_anyone_asks(
    database: Database, amount: int, status: str = "succeeded"
) -> tuple[Course, Books]:
    """Let a person refund `amount` of money of which no webhook tells, until Stripe is asked."""
    one, books = await paid_without_a_webhook(database)
    books.give(amount)
    books.made = [replace(made, status=status) for made in books.made]
    books.reports.clear()
    await expire_due(database, now() + LATE)
    await an_hour_later(one)
    return one, books


@pytest.mark.parametrize("by_hand", [4000, TOTAL])
async def test_money_that_a_person_has_refunded_already_buys_nothing(
    database: Database, by_hand: int
) -> None:
    """What is left of it does not pay the order either, so it goes back."""
    one, books = await refunded_before_anyone_asks(database, by_hand)
    assert await one.call() == 1
    await one.come_to_rest()
    assert (await one.status(), books.given) == ("CANCELLED", TOTAL)
    assert "payment.succeeded" not in await one.topics()
    await assert_refunded(one, books, by_hand)


async def test_money_that_is_on_its_way_back_buys_nothing(database: Database) -> None:
    one, books = await refunded_before_anyone_asks(database, TOTAL, "pending")
    assert await one.call() == 1
    await one.come_to_rest()
    assert await one.status() == "CANCELLED"
    assert [row["status"] for row in await one.payments()] == ["REFUNDING"]
    assert [made.refund_id for made in books.made] == [None], "it is not made again"


async def test_money_whose_refund_came_back_pays_the_order(database: Database) -> None:
    one, books = await refunded_before_anyone_asks(database, TOTAL, "failed")
    books.given = books.by_hand = 0
    assert await one.call() == 1
    await one.come_to_rest()
    assert await one.status() == "COMPLETED"
    await assert_conserved(one)


async def away(payment_intent: str) -> Any:
    """Stand in for a question that Stripe does not answer."""
    raise ProviderAway("no answer")


async def test_a_webhook_that_comes_while_stripe_tells_no_refunds_is_not_missed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, books = await ready(database)
    books.pay()
    await expire_due(database, now() + LATE)
    await an_hour_later(one)
    before = missed()
    with monkeypatch.context() as silent:
        silent.setattr(one.bank, "find_refunds", away)
        assert await one.call() == 1
    for report in one.in_transit():
        await one.arrive(report)
    assert await one.call() == 1
    await one.come_to_rest()
    assert (await one.status(), missed()) == ("COMPLETED", before)


async def test_money_counts_only_once_stripe_tells_its_refunds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await refunded_before_anyone_asks(database, TOTAL)
    before = missed()
    with monkeypatch.context() as silent:
        silent.setattr(one.bank, "find_refunds", away)
        assert await one.call() == 1
    assert (await one.status(), missed()) == ("CREATED", before)
    assert await one.call() == 1
    assert (await one.status(), missed()) == ("CANCELLED", (before or 0) + 1)


async def test_a_refund_by_hand_is_not_all_that_stripe_has_to_tell(database: Database) -> None:
    one, books = await paid_without_a_webhook(database)
    await one.cancel()
    await one.handle_all()
    books.by_hand += 100
    books.given += 100
    told = report_of(Fact.refunded_in_all(100), one.order_id, books.session, books.intent)
    await one.arrive(replace(told, order_id=one.order_id))
    assert await one.call() == 1
    await an_hour_later(one)
    await one.come_to_rest()
    assert (await one.status(), books.given) == ("CANCELLED", books.taken)


@pytest.mark.parametrize(("end", "status"), [("succeeded", "REFUNDED"), ("failed", "REFUNDING")])
async def test_a_refund_on_its_way_is_asked_for_until_it_has_ended(
    database: Database, end: str, status: str
) -> None:
    one, books = await cancelled_after_paying(database)
    for one.bank.refunds_are in ("pending", "requires_action", "requires_action"):
        assert await one.call() == 1
    books.reports.clear()
    assert [row["status"] for row in await one.payments()] == ["REFUNDING"]
    assert await overdue(database) == 0, "it may take days"
    one.bank.refunds_are = end
    assert await one.call() == 1
    await one.handle_all()
    assert [row["status"] for row in await one.payments()] == [status]
    assert await one.call() == (end == "failed"), "what came back is given once more"


@pytest.mark.parametrize("reason", [NOT_CONFIGURED, "refused"])
async def test_a_refund_on_its_way_that_stripe_does_not_show_is_asked_for_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    one, _ = await cancelled_after_paying(database)
    one.bank.refunds_are = "pending"
    assert await one.call() == 1
    with monkeypatch.context() as refusing:
        refusing.setattr(one.bank, "find_refund", refused(reason))
        assert [await one.call() for _ in range(2)] == [1, 1]
    one.bank.refunds_are = "succeeded"
    assert await one.call() == 1
    assert [row["status"] for row in await one.payments()] == ["REFUNDED"]


async def test_a_refund_is_requested_once_stripe_takes_the_key_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await cancelled_after_paying(database)
    with monkeypatch.context() as refusing:
        refusing.setattr(one.bank, "refund", refused(NOT_CONFIGURED))
        assert [await one.call() for _ in range(2)] == [1, 1]
    assert [row["status"] for row in await one.payments()] == ["REFUNDING"]
    await one.come_to_rest()
    await assert_conserved(one)
    made = "select from refunds join payments p on p.id = payment_id where order_id = $1"
    assert len(await one.fetch(made)) == 1, "none counts as failed"


async def test_money_that_no_webhook_told_of_is_found_once_stripe_takes_the_key_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, books = await paid_without_a_webhook(database)
    await one.cancel()
    await one.handle_all()
    await an_hour_later(one)
    with monkeypatch.context() as refusing:
        refusing.setattr(one.bank, "expire_session", refused(NOT_CONFIGURED))
        assert await one.call() == 1
    await one.come_to_rest()
    await assert_conserved(one)
    assert books.given == TOTAL


def refused(reason: str) -> Callable[..., Awaitable[Any]]:
    """Return a call of Stripe that is refused for that reason."""

    async def refuse(*_: Any) -> Any:
        raise ProviderRefused(reason, "Stripe says no")

    return refuse


async def requested_a_month_ago(one: Course) -> None:
    """Move refunds, and what is known of them, back by more than the time in which one may fail."""
    for table in ("refunds", "provider_events"):
        await one.fetch(
            f"update {table} set created_at = now() - interval '36 days'"
            " where payment_id in (select id from payments where order_id = $1)"
        )


async def a_month_later(one: Course) -> None:
    """Move refunds that have succeeded so far back that they are looked at for the last time."""
    await requested_a_month_ago(one)
    await one.fetch(
        "update provider_calls set due_at = now() where order_id = $1 and done_at is null"
    )


async def refunded_without_a_webhook(database: Database) -> tuple[Course, Books]:
    one, books = await cancelled_after_paying(database)
    assert await one.call() == 1
    books.reports.clear()
    await one.handle_all()
    assert [row["status"] for row in await one.payments()] == ["REFUNDED"]
    return one, books


async def test_a_refund_that_has_succeeded_is_looked_at_once_more(database: Database) -> None:
    one, _ = await refunded_without_a_webhook(database)
    assert (await one.call(), await overdue(database)) == (0, 0)
    explained = await explain(database, one.order_id)
    assert (explained["waitingFor"], explained["nextTimer"]) == (None, None)
    await a_month_later(one)
    assert [await one.call() for _ in range(2)] == [1, 0]
    left = "select from provider_calls where order_id = $1 and done_at is null"
    assert await one.fetch(left) == []
    assert [row["status"] for row in await one.payments()] == ["REFUNDED"]


async def test_a_refund_that_was_held_for_weeks_is_looked_at_once_more_after_it_was_posted(
    database: Database,
) -> None:
    one, books = await cancelled_after_paying(database)
    one.bank.refunds_are = "pending"
    assert await one.call() == 1
    books.reports.clear()
    await requested_a_month_ago(one)
    one.bank.refunds_are = "succeeded"
    assert [await one.call() for _ in range(2)] == [1, 0]
    left = "select from provider_calls where order_id = $1 and done_at is null"
    assert len(await one.fetch(left)) == 1, "it may still come back"
    await a_month_later(one)
    assert await one.call() == 1
    assert await one.fetch(left) == []


async def test_a_refund_that_stripe_does_not_know_a_month_later_is_left_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await refunded_without_a_webhook(database)

    async def another_account(id: str) -> Any:
        raise ProviderRefused("x", f"No such refund: {id}")

    monkeypatch.setattr(one.bank, "find_refund", another_account)
    await a_month_later(one)
    assert [await one.call() for _ in range(2)] == [1, 0]
    assert await overdue(database) == 0
    assert [row["status"] for row in await one.payments()] == ["REFUNDED"]


async def test_a_refund_is_looked_at_a_month_later_once_stripe_takes_the_key_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await refunded_without_a_webhook(database)
    await a_month_later(one)
    with monkeypatch.context() as refusing:
        refusing.setattr(one.bank, "find_refund", refused(NOT_CONFIGURED))
        assert await one.call() == 1
    assert [await one.call() for _ in range(2)] == [1, 0]


async def test_a_refund_that_comes_back_after_it_has_succeeded_is_made_again(
    database: Database,
) -> None:
    one, books = await refunded_without_a_webhook(database)
    one.bank.refunds_are, books.given = "failed", 0
    await a_month_later(one)
    assert await one.call() == 1
    await one.handle_all()
    assert [row["status"] for row in await one.payments()] == ["REFUNDING"]
    one.bank.refunds_are = "succeeded"
    await one.come_to_rest()
    assert [row["status"] for row in await one.payments()] == ["REFUNDED"]
    assert books.given == books.taken
    await assert_conserved(one)


async def test_a_refund_whose_metadata_a_person_has_changed_is_ours_when_it_comes_back(
    database: Database,
) -> None:
    """The report of its failure does not tell our id of it."""
    one, books = await cancelled_after_paying(database)
    one.bank.refunds_are = "pending"
    assert await one.call() == 1
    books.reports.clear()
    (id,), books.given = books.refunds.values(), 0
    books.tell(Fact.refund(id, TOTAL, "failed"))
    await one.arrive(books.reports[0])
    one.bank.refunds_are = "succeeded"
    await one.come_to_rest()
    assert [row["status"] for row in await one.payments()] == ["REFUNDED"]
    assert books.given == books.taken
    await assert_conserved(one)
    await assert_audited(database, one.order_id)


async def test_a_webhook_that_comes_after_all_changes_nothing(database: Database) -> None:
    one, books = await ready(database)
    books.pay()
    await expire_due(database, now() + LATE)
    await an_hour_later(one)
    assert await one.call() == 1
    await one.come_to_rest()
    assert {report.event_id for report in books.reports} <= one.arrived.keys()
    assert await one.status() == "COMPLETED"
    await assert_conserved(one)


async def test_a_delayed_payment_may_take_days_and_not_for_ever(database: Database) -> None:
    one, books = await ready(database)
    books.status = "complete"
    await expire_due(database, now() + LATE)
    await an_hour_later(one)
    for _ in range(20):
        assert await one.call() == 1
    assert (await one.status(), await overdue(database)) == ("CREATED", 0)
    await ended(one, "31 days")
    assert await one.call() == 1
    await one.handle_all()
    assert await one.status() == "CANCELLED"


@pytest.mark.parametrize("end", ["requires_payment_method", "canceled"])
async def test_a_delayed_payment_that_failed_is_found_though_no_webhook_tells_of_it(
    database: Database, end: str
) -> None:
    one, books = await ready(database)
    books.fail()
    books.intent_status = end
    books.reports.clear()
    await expire_due(database, now() + LATE)
    assert await one.call() == 1
    assert await one.status() == "CREATED", "the webhook may come in an hour"
    await an_hour_later(one)
    assert await one.call() == 1
    await one.handle_all()
    (payment,) = await one.payments()
    assert (payment["status"], payment["failure_reason"]) == ("FAILED", "The payment failed")
    assert (await one.status(), await one.call()) == ("CANCELLED", 0)


async def test_a_session_that_stripe_does_not_know_is_shown_to_operators(
    database: Database,
) -> None:
    one, _ = await ready(database)

    async def unknown(session_id: str) -> Any:
        raise ProviderRefused("refused", "No such checkout.session")

    one.bank.expire_session = unknown  # type: ignore[method-assign]
    await expire_due(database, now() + LATE)
    for _ in range(2):
        assert await one.call() == 1
    await an_hour_later(one)
    assert await one.call() == 1
    assert (await one.status(), await overdue(database)) == ("CREATED", 1)
    await one.cancel()
    await one.handle_all()
    assert await one.call() == 1
    assert (await one.call(), await overdue(database)) == (0, 0), "an ended order wants nothing"


async def refunded_by_hand(database: Database, amount: int) -> tuple[Course, Books, list[Report]]:
    """Let a person refund `amount` of an order's money; return the webhooks that are lost, too."""
    one, books = await ready(database)
    books.pay()
    for told in one.in_transit():
        await one.arrive(told)
    books.give(amount)
    lost = one.in_transit()
    books.reports = [told for told in books.reports if told not in lost]
    return one, books, lost


async def assert_refunded(one: Course, books: Books, by_hand: int) -> None:
    """Assert that all the money is refunded, once, and that nobody has to do anything."""
    (payment,) = await one.payments()
    assert (await one.status(), payment["status"]) == ("CANCELLED", "REFUNDED")
    ours = [refund.amount_minor for refund in books.made if refund.refund_id]
    assert ours == [TOTAL - by_hand] * (by_hand < TOTAL)
    await assert_conserved(one)
    await assert_audited(one.database, one.order_id)


@pytest.mark.parametrize("by_hand", [4000, TOTAL])
async def test_what_a_person_has_refunded_is_found_when_the_rest_is_asked_for(
    database: Database, caplog: pytest.LogCaptureFixture, by_hand: int
) -> None:
    one, books, lost = await refunded_by_hand(database, by_hand)
    await one.cancel()
    await one.come_to_rest()
    await assert_refunded(one, books, by_hand)
    assert not [text for text in caplog.messages if "An operator has to give back" in text]
    topics = await one.topics()
    for told in lost:
        await one.arrive(told)
    assert await one.topics() == topics, "a webhook that comes after all changes nothing"
    await assert_refunded(one, books, by_hand)


@pytest.mark.parametrize("by_hand", [4000, TOTAL])
async def test_a_failed_refund_that_a_person_has_made_is_closed_by_a_retry(
    database: Database, monkeypatch: pytest.MonkeyPatch, by_hand: int
) -> None:
    one, books, _ = await refunded_by_hand(database, by_hand)
    await one.cancel()

    async def untold(*_: Any) -> Any:
        raise ProviderRefused("The payment is refunded already", "refused")

    with monkeypatch.context() as silent:
        silent.setattr(one.bank, "refund", untold)
        await one.come_to_rest()
    (payment,) = await one.payments()
    assert payment["status"] == "REFUND_FAILED"
    assert await payments.retry_refund(database, payment["id"], "operator")
    await one.come_to_rest()
    await assert_refunded(one, books, by_hand)


async def test_a_refund_by_hand_that_is_on_its_way_is_not_made_again(database: Database) -> None:
    one, books, lost = await refunded_by_hand(database, TOTAL)
    (made,) = books.made
    books.made = [replace(made, status="pending")]
    await one.cancel()
    await one.come_to_rest()
    assert [row["status"] for row in await one.payments()] == ["REFUNDING"]
    assert await one.call() == 0
    for told in lost:
        await one.arrive(told)
    await assert_refunded(one, books, TOTAL)
