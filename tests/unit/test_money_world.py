"""Whatever providers report and whatever happens in between, in any order, no money is lost.

Every course of an order with up to two sessions is walked to its end: up to six reports, and those
of our own refunds, arrive in every order, interleaved with everything that agents, calls and the
customer may do. Larger worlds are walked at random.
"""

from collections import deque
from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lifecycle import Status
from app.money.ledger import Fact
from app.money.statuses import PaymentStatus
from tests.unit.money_books import CURRENCY, TOTAL, Entry, Payment, by_hand, paid
from tests.unit.money_rules import assert_final
from tests.unit.money_world import World, handle, moves, settled, whims

COURSES = {
    "paid": paid(),
    "too little": paid(TOTAL - 1),
    "too much": paid(TOTAL + 1),
    "another currency": paid(TOTAL, "EUR"),
    "left": Payment(in_transit=frozenset({Fact.expired()})),
    "paid after it failed": paid(TOTAL, CURRENCY, Fact.failed("The payment failed")),
    "refunded": by_hand(paid(), TOTAL),
    "refunded in part": by_hand(paid(), 999),
    "refunded in parts": by_hand(paid(), 999, TOTAL - 999),
    "refunded in vain": by_hand(paid(), TOTAL, fails=True),
    "refunded in part in vain": by_hand(paid(), 999, fails=True),
    "too much, refunded in part": by_hand(paid(TOTAL + 1), 1),
    "refunded slowly": by_hand(paid(), TOTAL, slowly=True),
}
SHORT = list(COURSES)[:8]
PAIRS = [pair for pair in combinations_with_replacement(SHORT, 2) if set(pair) != {SHORT[-1]}]
"""Excludes two sessions refunded in part, which have more courses than all others together."""


class Path:
    """The moves that led to a world, for the message of a failure."""

    def __init__(self, label: str, before: "Path | None" = None) -> None:
        self.label, self.before = label, before

    def __str__(self) -> str:
        return f"{self.before or ''}\n  {self.label}"


def assert_repeats_change_nothing(world: World) -> None:
    """Assert that redelivery (at-least-once) changes nothing, but may settle the order."""
    for message in world.handled:
        again = handle(world, message, True)
        assert again == world or again == settled(world)


def ends(start: World, *, undisturbed: bool = False) -> set[Status]:
    """Walk every course to its end, each state once; return the final statuses.

    `undisturbed`: there is stock, and the customer does nothing further.
    """
    found: set[Status] = set()
    seen, waiting = {start}, deque([(start, Path("begin"))])
    while waiting:
        world, path = waiting.popleft()
        try:
            assert_repeats_change_nothing(world)
            forced = list(moves(world, (True,) if undisturbed else (True, False)))
            if not forced:
                assert_final(world.status, world.payments)
                found.add(world.status)
            further = forced if undisturbed else [*forced, *whims(world)]
        except AssertionError as error:
            raise AssertionError(f"{error}, after{path}\n{world}") from error
        for label, after in further:
            if after not in seen:
                seen.add(after)
                waiting.append((after, Path(label, path)))
    return found


@pytest.mark.parametrize("requested", [True, False], ids=["ours", "foreign"])
@pytest.mark.parametrize("course", COURSES)
def test_every_course_of_one_session_conserves_the_money(course: str, requested: bool) -> None:
    session = COURSES[course]._replace(requested=requested)
    may_fail = 1 if len(session.in_transit) <= 2 else 0
    assert ends(World(Status.CREATED, (session,), may_fail=may_fail)) >= {Status.CANCELLED}


@pytest.mark.parametrize("requested", [True, False], ids=["ours", "foreign"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_course_of_two_sessions_conserves_the_money(
    first: str, second: str, requested: bool
) -> None:
    one = COURSES[first]._replace(requested=requested)
    other = COURSES[second]._replace(requested=False)
    assert ends(World(Status.CREATED, (one, other), (), may_fail=0)) >= {Status.CANCELLED}


@pytest.mark.parametrize("requested", [True, False], ids=["ours", "foreign"])
@pytest.mark.parametrize("other", ["paid", "too little", "another currency", "left"])
def test_an_order_that_is_paid_is_had_whatever_comes_beside(requested: bool, other: str) -> None:
    first = COURSES["paid"]._replace(requested=requested, entry=Entry(PaymentStatus.PENDING))
    paid = World(Status.CREATED, (first, COURSES[other]._replace(requested=False)), ())
    paid = next(world for label, world in moves(paid) if label.startswith("0 arrives"))
    assert ends(paid, undisturbed=True) == {Status.COMPLETED}


@pytest.mark.parametrize("waits", [True, False])
def test_a_foreign_session_that_fails_cancels_an_unpaid_order(waits: bool) -> None:
    foreign = COURSES["left"]._replace(requested=False)
    ours = Payment(entry=Entry(PaymentStatus.PENDING))
    world = World(Status.CREATED, (foreign, *[ours] * waits), ())
    assert ends(world, undisturbed=True) == {Status.CANCELLED}


@pytest.mark.parametrize("course", COURSES)
def test_no_order_is_had_with_money_that_does_not_settle_it(course: str) -> None:
    fits = course in ("paid", "paid after it failed")
    gone = course.startswith("refunded")
    possible = {Status.COMPLETED} if fits else {Status.CANCELLED}
    possible |= {Status.COMPLETED, Status.CANCELLED} if gone else set()
    possible |= {Status.CANCELLED} if course == "paid after it failed" else set()
    session = COURSES[course]._replace(entry=Entry(PaymentStatus.PENDING))
    world = World(Status.CREATED, (session,), ())
    assert ends(world, undisturbed=True) == possible


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(list(COURSES)), st.booleans()), min_size=2, max_size=4),
    st.integers(0, 3),
    st.data(),
)
def test_every_walk_through_larger_worlds_conserves_the_money(
    sessions: list[tuple[str, bool]], may_fail: int, data: st.DataObject
) -> None:
    payments = (COURSES[course]._replace(requested=ours) for course, ours in sessions)
    world = World(Status.CREATED, tuple(payments), may_fail=may_fail)
    whimsical = data.draw(st.integers(0, 4), "whims")
    while True:
        assert_repeats_change_nothing(world)
        choices = list(moves(world))
        if not choices:
            assert_final(world.status, world.payments)
        if whimsical and (wanted := list(whims(world))):
            choices += wanted
        if not choices:
            break
        label, world = choices[data.draw(st.integers(0, len(choices) - 1))]
        whimsical -= label.startswith(("pay", "check out", "cancel"))
