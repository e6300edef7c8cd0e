"""Rules for an order's money: for each step, and for the end, when nothing is left to do."""

from collections.abc import Sequence

from app.lifecycle import Status
from app.money.ledger import Money
from app.money.statuses import PaymentStatus
from app.money.steps import (
    AnnounceRefund,
    Cancel,
    Fail,
    Follow,
    GiveUpRefund,
    PaymentState,
    RequestRefund,
    Step,
    Succeed,
    Void,
)
from tests.unit.money_books import CURRENCY, TOTAL, Entry, Payment


def settles(money: Money) -> bool:
    """Return whether this is an order's exact money, with no refund made or in flight."""
    came = (money.captured_minor, money.currency) == (TOTAL, CURRENCY)
    return came and not money.refunded_minor and not money.refunding_minor


def assert_called_for(status: Status, step: Step, accounts: dict[int, PaymentState]) -> None:
    """Assert that the step is justified by itself, whatever the other steps are."""
    paid = [one for one in accounts.values() if one.status is PaymentStatus.SUCCEEDED]
    kept = paid if status is not Status.CANCELLED else []
    if isinstance(step, Cancel):
        assert status in (Status.CREATED, Status.PAID)
        assert not any(settles(one.money) for one in kept), "an order that is paid stays so"
        assert any(one.money.is_captured for one in accounts.values())
        return
    state = accounts[step.payment.int]
    match step:
        case Succeed():
            assert status is Status.CREATED and not kept and settles(state.money)
            assert not state.refunds, "money whose refund is requested is not kept"
        case Fail():
            assert status is Status.CREATED and not kept and not state.money.is_captured
            assert state.status is PaymentStatus.PENDING and state.money.failure == step.reason
        case Void():
            assert state.status is PaymentStatus.PENDING and (kept or status is not Status.CREATED)
        case RequestRefund(amount_minor=amount):
            requested = sum(state.unanswered.values())
            assert amount > 0 and state.failed_refunds < state.max_failed_refunds
            assert requested + amount == state.money.staying_minor, "all of it is refunded, once"
        case GiveUpRefund(amount_minor=amount):
            assert state.failed_refunds >= state.max_failed_refunds
            assert amount == state.owed_minor > 0
        case AnnounceRefund(amount_minor=amount, wholly=wholly):
            assert state.announced_minor + amount == state.money.refunded_minor
            assert wholly == (state not in kept and state.money.kept_minor == 0)
            assert amount or not state.money.captured_minor, "nothing is told but what was refunded"
        case Follow(status=PaymentStatus.REFUNDING):
            assert state.money.kept_minor and not state.owed_minor
        case Follow(status=followed):
            assert followed is PaymentStatus.REFUNDED and not state.money.kept_minor


def assert_status_tells(state: PaymentState) -> None:
    """Assert that a payment that is refunded has one status, whatever was reported first."""
    if state.money.is_captured and state.status is not PaymentStatus.SUCCEEDED:
        left = PaymentStatus.REFUND_FAILED if state.owed_minor else PaymentStatus.REFUNDING
        expected = left if state.money.kept_minor else PaymentStatus.REFUNDED
        assert state.status is expected, f"{state.status}, not {expected}"


def assert_final(status: Status, payments: Sequence[Payment]) -> None:
    """Assert a final state: the order has its exact money, has none, or still waits for it."""
    kept = [one for one in payments if one.has(PaymentStatus.SUCCEEDED)]
    assert status is not Status.PAID
    assert len(kept) == (status is Status.COMPLETED)
    for payment in payments:
        if entry := payment.entry:
            known = entry.money.captured_minor, entry.money.refunded_minor
            assert known == (payment.taken, payment.given), "what we think is what was done"
            assert entry.announced == payment.given, "and stands on the timeline"
            if payment in kept:
                assert payment.taken == TOTAL and not entry.refunds
                assert payment.given == payment.by_hand, "only a person refunds what is kept"
            else:
                assert_nothing_left(status, payment, entry)


def assert_nothing_left(status: Status, payment: Payment, entry: Entry) -> None:
    """Assert that the payment keeps nothing."""
    assert payment.given == payment.taken
    if payment.taken:
        assert status is not Status.CREATED and entry.status is PaymentStatus.REFUNDED
    elif status is Status.CREATED:
        assert entry.status is PaymentStatus.PENDING or not payment.requested
        assert entry.money.failure is None
    else:
        assert entry.status in (PaymentStatus.FAILED, PaymentStatus.VOIDED)
