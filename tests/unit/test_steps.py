"""The settlement of an order, whatever providers report, in any order: no money is lost."""

from itertools import permutations
from uuid import uuid4

import pytest

from app.lifecycle import REFUND_ATTEMPTS, PaymentStatus, Status
from app.money.ledger import Fact, captured, expired, failed, money_of, refund, refunded_in_all
from app.money.steps import (
    INCORRECT_AMOUNT,
    INCORRECT_CURRENCY,
    REFUNDED,
    Cancel,
    Fail,
    Follow,
    Park,
    PaymentState,
    Return,
    Returned,
    Succeed,
    Void,
    note,
    steps_of,
)
from tests.unit.money_books import CURRENCY, TOTAL

HISTORIES = [
    [captured(TOTAL, CURRENCY), captured(TOTAL, CURRENCY), refunded_in_all(TOTAL)],
    [failed("no"), expired(), captured(TOTAL, CURRENCY)],
    [captured(TOTAL, CURRENCY), captured(TOTAL - 1, CURRENCY), captured(TOTAL, "EUR")],
    [
        captured(TOTAL, CURRENCY),
        refund("re_1", 400, "pending", "ours"),
        refunded_in_all(400),
        refund("re_1", 400, "failed", "ours"),
        refund("re_2", TOTAL, "pending", "again"),
        refund("re_2", TOTAL, "succeeded", "again"),
    ],
    [
        captured(TOTAL, CURRENCY),
        refund("re_1", TOTAL, "pending"),
        refund("re_1", TOTAL, "succeeded"),
        refunded_in_all(TOTAL),
        refund("re_1", TOTAL, "failed"),
    ],
]


@pytest.mark.parametrize("history", HISTORIES)
def test_the_money_is_the_same_for_every_order_of_arrival(history: list[Fact]) -> None:
    money = money_of(history)
    for reports in permutations(history):
        assert money_of(reports) == money
        assert money_of(reports + reports[:2]) == money, "a repetition changes nothing"


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_refund_that_failed_in_the_end_has_not_gone_back(status: str) -> None:
    money = money_of([*HISTORIES[-1][:-1], refund("re_1", TOTAL, status)])
    assert (money.captured_minor, money.refunded_minor, money.returning_minor) == (TOTAL, 0, 0)
    assert not money.refunds_failed, "it was not ours"


def test_a_refund_on_its_way_is_neither_gone_nor_staying() -> None:
    money = money_of([captured(TOTAL, CURRENCY), refund("re_1", 999, "pending")])
    assert (money.kept_minor, money.returning_minor, money.staying_minor) == (TOTAL, 999, 9000)
    facts = [
        captured(TOTAL, CURRENCY),
        refund("re_1", 999, "requires_action"),
        refunded_in_all(999),
    ]
    assert money_of(facts) == money, "the sum over all counts it too"
    assert money_of(facts[1:]).returning_minor == 0, "of what is not known to have come"


def test_what_went_back_before_it_was_known_to_have_come_counts_when_it_is_known() -> None:
    early = [refund("re_1", TOTAL, "succeeded")]
    assert money_of(early).refunded_minor == 0
    assert money_of([*early, captured(TOTAL, CURRENCY)]).kept_minor == 0


def state(status: PaymentStatus, *facts: Fact) -> PaymentState:
    return PaymentState(uuid4(), status, money_of(facts))


def test_the_exact_money_settles_a_created_order() -> None:
    paid = state(PaymentStatus.PENDING, captured(TOTAL, CURRENCY))
    assert steps_of(Status.CREATED, TOTAL, CURRENCY, [paid]) == [Succeed(paid.id)]


@pytest.mark.parametrize(
    ("money", "reason"),
    [
        (captured(TOTAL - 1, CURRENCY), INCORRECT_AMOUNT),
        (captured(TOTAL + 1, CURRENCY), INCORRECT_AMOUNT),
        (captured(TOTAL, "EUR"), INCORRECT_CURRENCY),
    ],
)
def test_wrong_money_cancels_the_order_and_goes_back(money: Fact, reason: str) -> None:
    wrong = state(PaymentStatus.PENDING, money)
    steps = steps_of(Status.CREATED, TOTAL, CURRENCY, [wrong])
    assert steps == [Cancel(reason), Void(wrong.id), Return(wrong.id, money.amount_minor)]


@pytest.mark.parametrize("status", [Status.PAID, Status.COMPLETED])
def test_money_for_an_order_that_is_paid_goes_back(status: Status) -> None:
    first = state(PaymentStatus.SUCCEEDED, captured(TOTAL, CURRENCY))
    second = state(PaymentStatus.VOIDED, captured(TOTAL, CURRENCY))
    assert steps_of(status, TOTAL, CURRENCY, [first, second]) == [Return(second.id, TOTAL)]


def test_money_for_a_cancelled_order_goes_back() -> None:
    late = state(PaymentStatus.VOIDED, captured(TOTAL, CURRENCY))
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [Return(late.id, TOTAL)]


def test_a_checkout_that_failed_tells_so_only_while_its_order_waits() -> None:
    left = state(PaymentStatus.PENDING, expired())
    assert steps_of(Status.CREATED, TOTAL, CURRENCY, [left]) == [
        Fail(left.id, "The checkout expired")
    ]
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [left]) == [Void(left.id)]


def test_a_refund_before_completion_cancels_and_the_rest_goes_back() -> None:
    part = state(
        PaymentStatus.SUCCEEDED, captured(TOTAL, CURRENCY), refund("re_1", 999, "succeeded")
    )
    assert steps_of(Status.PAID, TOTAL, CURRENCY, [part]) == [
        Cancel(REFUNDED),
        Returned(part.id, 999, wholly=False),
        Return(part.id, 9000),
    ]


@pytest.mark.parametrize("status", [Status.CREATED, Status.PAID])
def test_an_order_whose_own_money_went_back_is_not_had_with_money_that_is_going_back(
    status: Status,
) -> None:
    other = state(PaymentStatus.REFUNDING, captured(TOTAL, CURRENCY))
    other.refunds["asked"] = TOTAL
    own = state(
        PaymentStatus.SUCCEEDED, captured(TOTAL, CURRENCY), refund("re_1", TOTAL, "succeeded")
    )
    steps = steps_of(status, TOTAL, CURRENCY, [other, own])
    assert steps == [Cancel(REFUNDED), Returned(own.id, TOTAL, wholly=True)]


@pytest.mark.parametrize("amount", [999, TOTAL])
def test_a_refund_after_completion_is_told_and_changes_nothing(amount: int) -> None:
    paid = state(
        PaymentStatus.SUCCEEDED, captured(TOTAL, CURRENCY), refund("re_1", amount, "succeeded")
    )
    steps = steps_of(Status.COMPLETED, TOTAL, CURRENCY, [paid])
    assert steps == [Returned(paid.id, amount, wholly=False)]


def test_a_refund_is_tried_so_often_and_then_parked() -> None:
    late = state(PaymentStatus.REFUNDING, captured(TOTAL, CURRENCY))
    for attempt in range(REFUND_ATTEMPTS):
        assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [Return(late.id, TOTAL)]
        late.refunds[f"request {attempt}"] = TOTAL
        assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [], "it is asked for"
        late.refused.add(f"request {attempt}")
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [Park(late.id, TOTAL)]


def test_a_refund_that_is_lost_counts_as_tried() -> None:
    lost = [refund(f"re_{n}", TOTAL, "failed", f"request {n}") for n in range(REFUND_ATTEMPTS)]
    late = state(PaymentStatus.REFUNDING, captured(TOTAL, CURRENCY), *lost[1:])
    late.refunds = {f"request {n}": TOTAL for n in range(1, REFUND_ATTEMPTS)}
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [Return(late.id, TOTAL)]
    late.learn(money_of([captured(TOTAL, CURRENCY), *lost]))
    late.refunds["request 0"] = TOTAL
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [Park(late.id, TOTAL)]


def test_what_went_back_of_a_parked_payment_is_told() -> None:
    part = refund("re_1", 999, "succeeded")
    parked = state(PaymentStatus.PARKED, captured(TOTAL, CURRENCY), part)
    parked.attempts = 0
    told = Returned(parked.id, 999, wholly=False)
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [parked]) == [told]


def test_a_payment_of_nothing_ends_with_its_order() -> None:
    free = state(PaymentStatus.SUCCEEDED, captured(0, CURRENCY))
    assert steps_of(Status.CANCELLED, 0, CURRENCY, [free]) == [Returned(free.id, 0, wholly=True)]


def test_what_was_told_as_gone_and_is_only_under_way_is_not_told_again() -> None:
    """The running total of refunds comes first, and includes one that is in flight."""
    part = state(PaymentStatus.REFUNDING, captured(TOTAL, CURRENCY))
    facts = [captured(TOTAL, CURRENCY)]
    for fact, step in (
        (refunded_in_all(TOTAL), Returned(part.id, TOTAL, wholly=True)),
        (refund("re_1", TOTAL, "pending"), Follow(part.id, PaymentStatus.REFUNDING)),
        (refund("re_1", TOTAL, "succeeded"), Follow(part.id, PaymentStatus.REFUNDED)),
    ):
        facts.append(fact)
        part.learn(money_of(facts))
        assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [part]) == [step]
        note(part, step, "none is asked for")
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [part]) == []
