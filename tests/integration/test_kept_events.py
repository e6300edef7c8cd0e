"""Events of Stripe that arrive before what they refer to."""

from dataclasses import replace
from uuid import UUID

import asyncpg
import orjson
import pytest

from app import placing
from app.background import LATELY
from app.db.pools import Database
from app.db.transaction import Transaction, write_changes
from app.placing import Basket
from app.resilience.quarantine import Quarantine
from app.stripe import events
from app.stripe.events import KEPT_FOR, settle_kept
from app.stripe.webhook import read
from tests.integration.hops import ANN, add_product
from tests.integration.money_course import (
    TOTAL,
    Course,
    assert_conserved,
    course,
    ready,
)
from tests.integration.stripe_books import Books

pytestmark = pytest.mark.usefixtures("nothing_due")


async def test_an_event_of_an_unknown_order_is_kept_and_applied_when_it_appears(
    database: Database,
) -> None:
    """An order is invisible before its commit."""
    basket = Basket({await add_product(database): 1}, None)
    async with database.connection() as connection, connection.transaction():
        transaction = Transaction(connection)
        products = await placing.products_of(transaction, [basket])
        command = placing.PlaceOrder(ANN, basket, None, "a request", 60)
        order = placing.add(transaction, command, products)
        await write_changes(transaction)
        one = Course(database, UUID(order["id"]))
        books = Books(one.order_id, TOTAL, "PLN")
        one.bank.books.append(books)
        books.pay()
        books.give(99)
        for report in reversed(books.reports):
            await one.arrive(report)
        assert await settle_kept(database, "early", Quarantine()) == 0
    assert await settle_kept(database, "found", Quarantine()) == 1
    (row,) = await one.payments()
    assert (row["captured_minor"], row["refunded_minor"]) == (TOTAL, 99)
    await one.come_to_rest()
    await assert_conserved(one)


async def test_what_is_told_before_its_payment_is_known_counts_when_that_is_known(
    database: Database,
) -> None:
    """A refund that a person makes names neither order nor session."""
    one, books = await ready(database)
    books.pay()
    books.give(TOTAL)
    for report in reversed(books.reports):
        await one.arrive(report)
    await one.come_to_rest()
    assert await one.status() == "CANCELLED"
    await assert_conserved(one)


async def test_a_refund_that_names_the_order_waits_for_its_session(database: Database) -> None:
    """A refund tool may name the order, which creates no payment of its own."""
    one, books = await ready(database)
    books.pay()
    books.give(99)
    paid, *given = books.reports
    for report in given:
        await one.arrive(replace(report, order_id=one.order_id))
    assert await settle_kept(database, "early", Quarantine()) == 0
    assert len(await one.payments()) == 1
    await one.arrive(paid)
    (row,) = await one.payments()
    assert (row["captured_minor"], row["refunded_minor"]) == (TOTAL, 99)
    await one.come_to_rest()
    await assert_conserved(one)


async def test_metadata_that_was_copied_to_a_refund_binds_no_attempt(database: Database) -> None:
    """The refund is of another session's money; the attempt's own is not paid yet."""
    one, books = await ready(database)
    other = Books(one.order_id, TOTAL, "PLN")
    other.pay()
    other.give(99)
    one.bank.books.append(other)
    paid, given, _ = other.reports
    found = {
        "id": "re_1",
        "object": "refund",
        "amount": 99,
        "status": "succeeded",
        "payment_intent": other.intent,
        "metadata": {"orderId": str(one.order_id), "paymentId": str(books.attempt_id)},
    }
    body = {"id": given.event_id, "type": given.type, "created": 1, "data": {"object": found}}
    await one.arrive(read(orjson.dumps(body)))
    books.pay()
    await one.arrive(books.reports[0])
    await one.arrive(paid)
    first, second = await one.payments()
    assert (first["payment_intent"], first["refunded_minor"]) == (books.intent, 0)
    assert (second["payment_intent"], second["refunded_minor"]) == (other.intent, 99)
    await one.come_to_rest()
    assert await one.status() == "COMPLETED"
    await assert_conserved(one)


async def test_two_reports_that_passed_each_other_find_together(database: Database) -> None:
    one, books = await ready(database)
    books.pay()
    books.give(TOTAL)
    await one.arrive(books.reports[0])
    async with database.connection() as connection:
        await connection.execute(
            """
            insert into provider_events (
                provider, event_id, type, created_at, received_at, payment_intent, kind,
                amount_minor
            )
            values ('stripe', $1, 'charge.refunded', now(), now(), $2, 'refunded_in_all', $3)
            """,
            books.reports[2].event_id,
            books.intent,
            TOTAL,
        )
    assert await settle_kept(database, "found", Quarantine()) == 1
    assert (await one.payments())[0]["refunded_minor"] == TOTAL


async def test_money_at_stripe_is_never_taken_for_another_provider_s(database: Database) -> None:
    """A session that is created manually may name any payment in its metadata."""
    one = await course(database)
    await one.pay()
    (internal,) = await one.payments()
    books = Books(one.order_id, TOTAL, "PLN", internal["id"])
    one.bank.books.append(books)
    books.pay()
    await one.come_to_rest()
    assert [row["provider"] for row in await one.payments()] == ["internal", "stripe"]
    assert sum(row["status"] == "SUCCEEDED" for row in await one.payments()) == 1
    await assert_conserved(one)


LAST_VERSION = 2**31 - 1
"""No event of an order with this version can be stored."""


async def with_kept_money(database: Database, version: int | None = None) -> Course:
    """Return the course of an order whose payment has been reported, and is not assigned yet."""
    one = await course(database)
    if version:
        await one.fetch(f"update orders set version = {version} where id = $1")
    books = Books(one.order_id, TOTAL, "PLN")
    books.pay()
    (report,) = books.reports
    unseen = replace(report, order_id=None)
    await one.arrive(unseen)
    await one.fetch(
        f"update provider_events set order_id = $1 where event_id = '{unseen.event_id}'"
    )
    return one


async def request_ids(one: Course) -> list[str]:
    """Return the request ids of the order's events, oldest first."""
    rows = await one.fetch("select request_id from outbox where order_id = $1 order by sequence")
    return [row["request_id"] for row in rows]


async def test_what_a_kept_event_leads_to_carries_the_id_of_its_request(
    database: Database,
) -> None:
    one = await with_kept_money(database)
    assert await settle_kept(database, "a timer", Quarantine()) == 1
    assert (await request_ids(one))[1:] == ["a webhook"]


async def test_what_a_kept_event_of_an_unknown_request_leads_to_carries_another_id(
    database: Database,
) -> None:
    """The table allows it."""
    one = await with_kept_money(database)
    await one.fetch("update provider_events set request_id = null where order_id = $1")
    assert await settle_kept(database, "a timer", Quarantine()) == 1
    assert (await request_ids(one))[1:] == ["a timer"]


async def test_what_was_kept_for_weeks_costs_the_timer_nothing(database: Database) -> None:
    """It is most likely of another user of the account; what else happens to the order finds it."""
    one = await with_kept_money(database)
    old = "update provider_events set received_at = now() - interval '36 days' where order_id = $1"
    await one.fetch(old)
    assert await settle_kept(database, "a timer", Quarantine()) == 0


async def test_what_was_kept_for_hours_is_left_to_the_rarer_look(database: Database) -> None:
    """Others who use the account may have very many of these."""
    one = await with_kept_money(database)
    old = "update provider_events set received_at = now() - interval '2 hours' where order_id = $1"
    await one.fetch(old)
    assert await settle_kept(database, "a timer", Quarantine(), LATELY) == 0
    assert await settle_kept(database, "the rarer timer", Quarantine(), KEPT_FOR) == 1
    assert [row["status"] for row in await one.payments()] == ["SUCCEEDED"]


async def test_orders_that_are_refused_hold_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BATCH", 2)
    bad = [await with_kept_money(database, LAST_VERSION) for _ in range(3)]
    good = await with_kept_money(database)
    quarantine = Quarantine()
    assert [await settle_kept(database, "kept", quarantine) for _ in range(3)] == [2, 2, 0]
    assert [row["status"] for row in await good.payments()] == ["SUCCEEDED"]
    for one in bad:
        assert await one.payments() == []
        await one.fetch("update orders set version = 1 where id = $1")
    assert await settle_kept(database, "at once", quarantine) == 0
    assert await settle_kept(database, "by another worker", Quarantine()) == 2
    assert await settle_kept(database, "by another worker", Quarantine()) == 1
    for one in bad:
        assert [row["status"] for row in await one.payments()] == ["SUCCEEDED"]


async def test_an_order_that_is_locked_is_not_in_quarantine(database: Database) -> None:
    """It is no fault of the order, which is looked at again at once."""
    one, quarantine = await with_kept_money(database), Quarantine()
    async with database.connection() as other, other.transaction():
        await other.execute("select from orders where id = $1 for update", one.order_id)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await settle_kept(database, "kept", quarantine)
    assert quarantine.ids() == []
    assert await settle_kept(database, "kept", quarantine) == 1


async def test_an_order_is_looked_at_again_after_its_quarantine(database: Database) -> None:
    one = await with_kept_money(database, LAST_VERSION)
    quarantine = Quarantine(seconds=0)
    for _ in range(2):
        assert await settle_kept(database, "again", quarantine) == 1
    await one.fetch("update orders set version = 1 where id = $1")
    assert [await settle_kept(database, "mended", quarantine) for _ in range(2)] == [1, 0]
    assert [row["status"] for row in await one.payments()] == ["SUCCEEDED"]
