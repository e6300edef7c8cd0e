"""Events of Stripe that come before what they speak of."""

from uuid import uuid4

import pytest

from app.db import Database
from app.stripe_events import settle_kept
from tests.integration.hops import ANN, add_product
from tests.integration.money_course import (
    TOTAL,
    Course,
    assert_conserved,
    forget_what_is_due,
    ready,
)
from tests.integration.stripe_books import Books


@pytest.fixture(autouse=True)
async def nothing_due(database: Database) -> None:
    """What other tests left would count too."""
    await forget_what_is_due(database)


ORDER = """
    with placed as (
        insert into orders (
            id, user_id, status, total_minor, currency, version, created_at, updated_at
        )
        values ($1, $2, 'CREATED', 9999, 'PLN', 1, now(), now())
    ), deadline as (
        insert into order_deadlines values ($1, now() + interval '30 minutes')
    ), told as (
        insert into outbox (
            event_id, topic, order_id, sequence, request_id, occurred_at, payload
        )
        values (gen_random_uuid(), 'order.created', $1, 1, 'placed', now(), '{}')
    )
    insert into order_items values ($1, 1, $3, 1, 9999)
"""


async def test_an_event_of_an_unknown_order_is_kept_and_applied_when_it_appears(
    database: Database,
) -> None:
    one = Course(database, uuid4())
    books = Books(one.order_id, TOTAL, "PLN")
    one.bank.books.append(books)
    books.pay()
    books.give(99)
    for report in reversed(books.reports):
        await one.arrive(report)
    assert await settle_kept(database, "early") == 0
    async with database.connection() as connection:
        await connection.execute(ORDER, one.order_id, ANN.id, await add_product(database))
    assert await settle_kept(database, "found") == 1
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
    assert await settle_kept(database, "found") == 1
    assert (await one.payments())[0]["refunded_minor"] == TOTAL
