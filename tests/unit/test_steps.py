"""The settlement of an order, whatever providers report, in any order: no money is lost."""

from itertools import permutations
from uuid import uuid4

import pytest

from app.lifecycle import Status
from app.money.ledger import Fact, money_of
from app.money.statuses import MAX_FAILED_REFUNDS, PaymentStatus
from app.money.steps import (
    INCORRECT_AMOUNT,
    INCORRECT_CURRENCY,
    REFUNDED,
    AnnounceRefund,
    Cancel,
    Fail,
    Follow,
    GiveUpRefund,
    PaymentState,
    RequestRefund,
    Succeed,
    Void,
    apply,
    steps_of,
)
from tests.unit.money_books import CURRENCY, TOTAL

HISTORIES = [
    [Fact.captured(TOTAL, CURRENCY), Fact.captured(TOTAL, CURRENCY), Fact.refunded_in_all(TOTAL)],
    [Fact.failed("no"), Fact.expired(), Fact.captured(TOTAL, CURRENCY)],
    [
        Fact.captured(TOTAL, CURRENCY),
        Fact.captured(TOTAL - 1, CURRENCY),
        Fact.captured(TOTAL, "EUR"),
    ],
    [
        Fact.captured(TOTAL, CURRENCY),
        Fact.refund("re_1", 400, "pending", "ours"),
        Fact.refunded_in_all(400),
        Fact.refund("re_1", 400, "failed", "ours"),
        Fact.refund("re_2", TOTAL, "pending", "again"),
        Fact.refund("re_2", TOTAL, "succeeded", "again"),
    ],
    [
        Fact.captured(TOTAL, CURRENCY),
        Fact.refund("re_1", TOTAL, "pending", "ours"),
        Fact.refund("re_1", TOTAL, "failed"),
        Fact.refund("re_1", TOTAL, "failed", "ours"),
    ],
    [
        Fact.captured(TOTAL, CURRENCY),
        Fact.refund("re_1", TOTAL, "pending"),
        Fact.refund("re_1", TOTAL, "succeeded"),
        Fact.refunded_in_all(TOTAL),
        Fact.refund("re_1", TOTAL, "failed"),
    ],
]


@pytest.mark.parametrize("history", HISTORIES)
def test_the_money_is_the_same_for_every_order_of_arrival(history: list[Fact]) -> None:
    money = money_of(history)
    for reports in permutations(history):
        assert money_of(reports) == money
        assert money_of(reports + reports[:2]) == money, "a repetition changes nothing"


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_refund_that_failed_in_the_end_counts_as_none(status: str) -> None:
    money = money_of([*HISTORIES[-1][:-1], Fact.refund("re_1", TOTAL, status)])
    assert (money.captured_minor, money.refunded_minor, money.refunding_minor) == (TOTAL, 0, 0)
    assert not money.refunds_failed, "it was not ours"


def test_a_refund_on_its_way_is_neither_refunded_nor_staying() -> None:
    money = money_of([Fact.captured(TOTAL, CURRENCY), Fact.refund("re_1", 999, "pending")])
    assert (money.kept_minor, money.refunding_minor, money.staying_minor) == (TOTAL, 999, 9000)
    facts = [
        Fact.captured(TOTAL, CURRENCY),
        Fact.refund("re_1", 999, "requires_action"),
        Fact.refunded_in_all(999),
    ]
    assert money_of(facts) == money, "the sum over all counts it too"
    assert money_of(facts[1:]).refunding_minor == 0, "of what is not known to have come"


def test_what_was_refunded_before_it_was_known_to_have_come_counts_when_it_is_known() -> None:
    early = [Fact.refund("re_1", TOTAL, "succeeded")]
    assert money_of(early).refunded_minor == 0
    assert money_of([*early, Fact.captured(TOTAL, CURRENCY)]).kept_minor == 0


def state(status: PaymentStatus, *facts: Fact) -> PaymentState:
    return PaymentState(uuid4(), status, money_of(facts))


def test_the_exact_money_settles_a_created_order() -> None:
    paid = state(PaymentStatus.PENDING, Fact.captured(TOTAL, CURRENCY))
    assert steps_of(Status.CREATED, TOTAL, CURRENCY, [paid]) == [Succeed(paid.id)]


@pytest.mark.parametrize(
    ("money", "reason"),
    [
        (Fact.captured(TOTAL - 1, CURRENCY), INCORRECT_AMOUNT),
        (Fact.captured(TOTAL + 1, CURRENCY), INCORRECT_AMOUNT),
        (Fact.captured(TOTAL, "EUR"), INCORRECT_CURRENCY),
    ],
)
def test_wrong_money_cancels_the_order_and_is_refunded(money: Fact, reason: str) -> None:
    wrong = state(PaymentStatus.PENDING, money)
    steps = steps_of(Status.CREATED, TOTAL, CURRENCY, [wrong])
    assert steps == [Cancel(reason), Void(wrong.id), RequestRefund(wrong.id, money.amount_minor)]


@pytest.mark.parametrize("status", [Status.PAID, Status.COMPLETED])
def test_money_for_an_order_that_is_paid_is_refunded(status: Status) -> None:
    first = state(PaymentStatus.SUCCEEDED, Fact.captured(TOTAL, CURRENCY))
    second = state(PaymentStatus.VOIDED, Fact.captured(TOTAL, CURRENCY))
    assert steps_of(status, TOTAL, CURRENCY, [first, second]) == [RequestRefund(second.id, TOTAL)]


def test_money_for_a_cancelled_order_is_refunded() -> None:
    late = state(PaymentStatus.VOIDED, Fact.captured(TOTAL, CURRENCY))
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [RequestRefund(late.id, TOTAL)]


def test_a_checkout_that_failed_tells_so_only_while_its_order_waits() -> None:
    left = state(PaymentStatus.PENDING, Fact.expired())
    assert steps_of(Status.CREATED, TOTAL, CURRENCY, [left]) == [
        Fail(left.id, "The checkout expired")
    ]
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [left]) == [Void(left.id)]


def test_a_refund_before_completion_cancels_and_the_rest_is_refunded() -> None:
    part = state(
        PaymentStatus.SUCCEEDED,
        Fact.captured(TOTAL, CURRENCY),
        Fact.refund("re_1", 999, "succeeded"),
    )
    assert steps_of(Status.PAID, TOTAL, CURRENCY, [part]) == [
        Cancel(REFUNDED),
        AnnounceRefund(part.id, 999, wholly=False),
        RequestRefund(part.id, 9000),
    ]


@pytest.mark.parametrize("status", [Status.CREATED, Status.PAID])
def test_an_order_whose_own_money_was_refunded_is_not_had_with_money_being_refunded(
    status: Status,
) -> None:
    other = state(PaymentStatus.REFUNDING, Fact.captured(TOTAL, CURRENCY))
    other.refunds["asked"] = TOTAL
    own = state(
        PaymentStatus.SUCCEEDED,
        Fact.captured(TOTAL, CURRENCY),
        Fact.refund("re_1", TOTAL, "succeeded"),
    )
    steps = steps_of(status, TOTAL, CURRENCY, [other, own])
    assert steps == [Cancel(REFUNDED), AnnounceRefund(own.id, TOTAL, wholly=True)]


@pytest.mark.parametrize("amount", [999, TOTAL])
def test_a_refund_after_completion_is_told_and_changes_nothing(amount: int) -> None:
    paid = state(
        PaymentStatus.SUCCEEDED,
        Fact.captured(TOTAL, CURRENCY),
        Fact.refund("re_1", amount, "succeeded"),
    )
    steps = steps_of(Status.COMPLETED, TOTAL, CURRENCY, [paid])
    assert steps == [AnnounceRefund(paid.id, amount, wholly=False)]


def test_a_refund_is_tried_so_often_and_then_given_up() -> None:
    late = state(PaymentStatus.REFUNDING, Fact.captured(TOTAL, CURRENCY))
    for number in range(MAX_FAILED_REFUNDS):
        steps = steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late])
        assert steps == [RequestRefund(late.id, TOTAL)]
        late.refunds[f"refund {number}"] = TOTAL
        assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [], "it is asked for"
        late.refused.add(f"refund {number}")
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [GiveUpRefund(late.id, TOTAL)]


def test_a_refund_that_is_lost_counts_as_tried() -> None:
    numbers = range(MAX_FAILED_REFUNDS)
    lost = [Fact.refund(f"re_{n}", TOTAL, "failed", f"refund {n}") for n in numbers]
    late = state(PaymentStatus.REFUNDING, Fact.captured(TOTAL, CURRENCY), *lost[1:])
    late.refunds = {f"refund {n}": TOTAL for n in numbers[1:]}
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [RequestRefund(late.id, TOTAL)]
    late.learn(money_of([Fact.captured(TOTAL, CURRENCY), *lost]))
    late.refunds["refund 0"] = TOTAL
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [late]) == [GiveUpRefund(late.id, TOTAL)]


def test_what_was_refunded_of_a_payment_whose_refund_failed_is_announced() -> None:
    part = Fact.refund("re_1", 999, "succeeded")
    failed = state(PaymentStatus.REFUND_FAILED, Fact.captured(TOTAL, CURRENCY), part)
    failed.max_failed_refunds = 0
    told = AnnounceRefund(failed.id, 999, wholly=False)
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [failed]) == [told]


def test_a_payment_of_nothing_ends_with_its_order() -> None:
    free = state(PaymentStatus.SUCCEEDED, Fact.captured(0, CURRENCY))
    steps = steps_of(Status.CANCELLED, 0, CURRENCY, [free])
    assert steps == [AnnounceRefund(free.id, 0, wholly=True)]
    apply(free, steps[0], "none is asked for")
    assert steps_of(Status.CANCELLED, 0, CURRENCY, [free]) == [], "it is told once"


def test_what_was_announced_and_is_only_under_way_is_not_announced_again() -> None:
    """The running total of refunds comes first, and includes one that is in flight."""
    part = state(PaymentStatus.REFUNDING, Fact.captured(TOTAL, CURRENCY))
    facts = [Fact.captured(TOTAL, CURRENCY)]
    for fact, step in (
        (Fact.refunded_in_all(TOTAL), AnnounceRefund(part.id, TOTAL, wholly=True)),
        (Fact.refund("re_1", TOTAL, "pending"), Follow(part.id, PaymentStatus.REFUNDING)),
        (Fact.refund("re_1", TOTAL, "succeeded"), Follow(part.id, PaymentStatus.REFUNDED)),
    ):
        facts.append(fact)
        part.learn(money_of(facts))
        assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [part]) == [step]
        apply(part, step, "none is asked for")
    assert steps_of(Status.CANCELLED, TOTAL, CURRENCY, [part]) == []
