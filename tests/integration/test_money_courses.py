"""Every course of reports, actions, agents and calls conserves an order's money."""

from itertools import permutations
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app import payments
from app.db.pools import Database
from app.money.ledger import Fact
from tests.integration.money_course import (
    TOTAL,
    Course,
    assert_conserved,
    course,
    forget_what_is_due,
    ready,
)
from tests.integration.stripe_books import Books

ACTIONS = ["pay", "cancel", "expire", "arrive", "arrive", "repeat", "handle", "handle", "call"]


async def happen(one: Course, action: str, data: st.DataObject) -> None:
    """Do one action, if it is possible."""

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
    """Let a session take that course at Stripe."""
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
        if row["status"] == "REFUND_FAILED":
            assert any(books.by_hand for books in one.bank.books), "nothing else is refused"
            assert await payments.retry_refund(database, row["id"], "operator")
    await one.come_to_rest()
    await assert_conserved(one)


async def test_every_permutation_of_the_same_reports_ends_alike(database: Database) -> None:
    """A capture, reported twice, and a refund in two parts, with its running totals."""
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


async def test_a_refund_on_its_way_has_one_status_whatever_is_reported_first(
    database: Database,
) -> None:
    """The running total of refunds includes one that is pending, and may come before it."""
    for places in permutations(range(3)):
        one = await course(database)
        books = Books(one.order_id, TOTAL, "PLN")
        id = f"re_{one.order_id}"
        books.pay()
        books.tell(Fact.refund(id, TOTAL, "pending"))
        books.tell(Fact.refunded_in_all(TOTAL))
        for place in places:
            await one.arrive(books.reports[place])
        (row,) = await one.payments()
        assert (row["status"], row["refunded_minor"]) == ("REFUNDING", 0), places
        books.tell(Fact.refund(id, TOTAL, "succeeded"))
        await one.arrive(books.reports[-1])
        (row,) = await one.payments()
        assert (row["status"], row["refunded_minor"]) == ("REFUNDED", TOTAL), places
        assert (await one.topics()).count("payment.refunded") == 1
