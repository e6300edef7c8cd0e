"""An order's money in PostgreSQL: whatever comes in whatever order, nothing is lost or given twice."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app import payments
from app.db import Database
from app.stripe_events import settle_kept
from tests.integration.hops import add_product, order_of
from tests.integration.money_course import Books, Course

TOTAL = 9999


@pytest.fixture(autouse=True)
async def nothing_due(database: Database) -> None:
    """Calls and deadlines that other tests left would count too."""
    await forget_what_is_due(database)


async def forget_what_is_due(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("delete from order_deadlines")
        await connection.execute("update provider_calls set done_at = now() where done_at is null")


async def course(database: Database, pieces: int = 10) -> Course:
    """An order of 99.99."""
    return Course(database, await order_of(database, {await add_product(database, pieces): 1}))


async def ready(database: Database, pieces: int = 10) -> tuple[Course, Books]:
    """An order whose checkout is open."""
    one = await course(database, pieces)
    await one.check_out()
    for waiting in await one.waiting():
        await one.handle(*waiting)
    await one.call()
    (books,) = one.bank.books
    return one, books


async def assert_conserved(one: Course) -> None:
    """What we think is what Stripe did; the order keeps its total, or nothing."""
    rows = await one.payments()
    kept = [row for row in rows if row["status"] == "SUCCEEDED"]
    status = await one.status()
    assert status in ("COMPLETED", "CANCELLED")
    assert len(kept) == (status == "COMPLETED"), [dict(row) for row in rows]
    by_session = {row["session_id"]: row for row in rows}
    for books in one.bank.books:
        row = by_session.get(books.session)
        assert row or books.taken == 0
        if row:
            assert (row["captured_minor"], row["refunded_minor"]) == (books.taken, books.given)
            assert row["told_minor"] == row["refunded_minor"]
    for row in rows:
        gone = row["refunded_minor"]
        if row in kept:
            assert row["captured_minor"] == TOTAL
            by_hand = [b.by_hand for b in one.bank.books if b.session == row["session_id"]]
            assert gone == sum(by_hand), "we give back nothing of what is kept"
        else:
            assert gone == row["captured_minor"], dict(row)
    topics = await one.topics()
    assert ("order.completed" in topics) == (status == "COMPLETED")
    if "order.completed" in topics:
        assert "payment.succeeded" in topics[: topics.index("order.completed")], "none ships unpaid"


async def test_a_checkout_that_is_paid_completes_its_order(database: Database) -> None:
    one, books = await ready(database)
    books.pay()
    await one.come_to_rest()
    assert await one.topics() == [
        *("order.created", "order.checkout_requested", "payment.succeeded", "order.paid"),
        *("inventory.reserved", "order.completed"),
    ]
    await assert_conserved(one)


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
async def test_wrong_money_cancels_the_order_and_goes_back(
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
    (row,) = await one._fetch("select cancel_reason from orders where id = $1")
    assert row["cancel_reason"] == reason


async def test_money_after_the_cancel_goes_back_and_the_session_is_closed(
    database: Database,
) -> None:
    one, books = await ready(database)
    await one.cancel()
    books.pay()
    await one.come_to_rest()
    await assert_conserved(one)
    assert (await one.topics()).count("payment.refunded") == 1


async def test_a_cancel_closes_the_open_session(database: Database) -> None:
    one, books = await ready(database)
    await one.cancel()
    await one.come_to_rest()
    assert books.status == "expired"
    assert (await one.topics())[2:] == ["order.cancelled"]


async def test_a_session_that_was_opened_for_a_cancelled_order_is_closed(
    database: Database,
) -> None:
    """The order is cancelled while Stripe is being asked."""
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


async def test_money_that_fails_cancels_and_money_that_comes_after_all_goes_back(
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


async def test_a_second_payment_goes_back(database: Database) -> None:
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


async def test_an_event_of_an_unknown_order_is_kept_and_applied_when_it_appears(
    database: Database,
) -> None:
    one = await course(database)
    other = await course(database)
    hidden = other.order_id
    async with database.connection() as connection:
        for table, column in (
            *(("outbox", "order_id"), ("order_items", "order_id")),
            *(("order_deadlines", "order_id"), ("orders", "id")),
        ):
            await connection.execute(
                f"create temp table kept_{table} as select * from {table} where false"
            )
            await connection.execute(
                f"insert into kept_{table} select * from {table} where {column} = $1", hidden
            )
            await connection.execute(f"delete from {table} where {column} = $1", hidden)
        books = Books(hidden, TOTAL, "PLN")
        books.pay()
        books.give(99)
        for report in reversed(books.reports):
            await one.arrive(report)
        assert await settle_kept(database, "early") == 0
        for table in ("orders", "order_items", "order_deadlines", "outbox"):
            columns = await connection.fetchval(
                "select string_agg(column_name, ',') from information_schema.columns"
                " where table_name = $1 and table_schema = 'public' and is_identity = 'NO'",
                table,
            )
            await connection.execute(
                f"insert into {table} ({columns}) select {columns} from kept_{table}"
            )
            await connection.execute(f"drop table kept_{table}")
    assert await settle_kept(database, "found") == 1
    (row,) = await other.payments()
    assert (row["captured_minor"], row["refunded_minor"]) == (TOTAL, 99)
    other.bank.books.append(books)
    await other.come_to_rest()
    await assert_conserved(other)


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
                provider, event_id, type, created_at, received_at, payment_intent, kind, amount_minor
            )
            values ('stripe', $1, 'charge.refunded', now(), now(), $2, 'refunded_in_all', $3)
            """,
            books.reports[2].event_id,
            books.intent,
            TOTAL,
        )
    assert await settle_kept(database, "found") == 1
    assert (await one.payments())[0]["refunded_minor"] == TOTAL


async def test_a_refused_refund_is_tried_again_then_parked_then_retried(
    database: Database,
) -> None:
    one, books = await ready(database)
    books.pay()
    await one.come_to_rest()
    second = Books(one.order_id, TOTAL, "PLN")
    second.pay()
    second.taken = 0  # Stripe will give nothing back
    one.bank.books.append(second)
    await one.come_to_rest()
    parked = next(row for row in await one.payments() if not row["requested"])
    assert (parked["status"], parked["captured_minor"]) == ("PARKED", TOTAL)
    query = "select count(*) from refunds where payment_id = $1 and refused_reason is not null"
    async with database.connection() as connection:
        assert await connection.fetchval(query, parked["id"]) == 5
    assert not await payments.retry_refund(database, (await one.payments())[0]["id"], "operator")
    second.taken = TOTAL
    assert await payments.retry_refund(database, parked["id"], "operator")
    await one.come_to_rest()
    assert second.given == TOTAL
    await assert_conserved(one)


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


ACTIONS = ["pay", "cancel", "expire", "arrive", "arrive", "repeat", "handle", "handle", "call"]


async def happen(one: Course, action: str, data: st.DataObject) -> None:
    """One thing, where it can happen."""

    def choose(things: list[Any]) -> Any:
        return things[data.draw(st.integers(0, len(things) - 1))]

    match action:
        case "arrive" if reports := one.in_transit():
            await one.arrive(choose(reports))
        case "repeat" if one.arrived:
            await one.arrive(choose(list(one.arrived.values())))
        case "handle" if waiting := await one.waiting():
            await one.handle(*choose(waiting))
        case "call":
            await one.call()
        case "pay":
            await one.pay()
        case "cancel":
            await one.cancel()
        case "expire":
            await one.expire()


def course_of(books: Books, what: str) -> None:
    """What a session goes through by itself."""
    match what:
        case "paid":
            books.pay()
        case "refunded":
            books.pay()
            books.give(books.amount)
        case "refunded in part":
            books.pay()
            books.give(books.amount // 2)
        case "failed":
            books.fail()
        case "failed, then paid":
            books.fail()
            books.pay()
        case "expired":
            books.expire()


COURSES = ["paid", "paid", "refunded", "refunded in part", "failed", "failed, then paid", "expired"]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(COURSES), st.integers(-1, 1)), min_size=1, max_size=2),
    st.lists(st.sampled_from(ACTIONS), max_size=14),
    st.data(),
)
async def test_every_course_of_events_conserves_the_money(
    database: Database,
    first_is_ours: bool,
    sessions: list[tuple[str, int]],
    actions: list[str],
    data: st.DataObject,
) -> None:
    await forget_what_is_due(database)
    if first_is_ours:
        one, first = await ready(database)
    else:
        one = await course(database)
        first = Books(one.order_id, TOTAL, "PLN")
        one.bank.books.append(first)
    more = [Books(one.order_id, TOTAL, "PLN") for _ in sessions[1:]]
    one.bank.books += more
    for books, (what, surplus) in zip([first, *more], sessions, strict=True):
        books.amount += surplus
        course_of(books, what)
    for action in actions:
        await happen(one, action, data)
    await one.come_to_rest()
    for row in await one.payments():
        if row["status"] == "PARKED":
            assert any(books.by_hand for books in one.bank.books), "nothing else is refused"
            assert await payments.retry_refund(database, row["id"], "operator")
    await one.come_to_rest()
    await assert_conserved(one)


async def test_every_permutation_of_the_same_reports_ends_alike(database: Database) -> None:
    """A capture, told twice, and a refund in two parts, with the sum over both."""
    ends = set()
    for places in permutations(range(4)):
        one = await course(database)
        books = Books(one.order_id, TOTAL, "PLN")
        one.bank.books.append(books)
        books.pay()
        books.give(99)
        books.give(TOTAL - 99)
        reports = [*books.reports[:2], *books.reports[3:]]
        for place in (*places, places[0]):
            await one.arrive(reports[place])
        await one.come_to_rest()
        (row,) = await one.payments()
        ends.add((await one.status(), row["status"], row["captured_minor"], row["refunded_minor"]))
    assert ends == {("CANCELLED", "REFUNDED", TOTAL, TOTAL)}
