"""What an order waits for, from the facts alone."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.explain import explanation
from app.lifecycle import Status
from app.money.statuses import MAX_ATTEMPTS, PaymentStatus
from app.waiting import Attempt, Facts, actions, waiting_for

PLACED = datetime(2026, 1, 3, 12, tzinfo=UTC)
TRIED, MOVED, CHANGED = (PLACED + timedelta(minutes=n) for n in (1, 2, 3))
DUE = CHANGED + timedelta(minutes=1)
UNSENT = ("order.paid", MOVED)


def facts(status: Status, **known: Any) -> Facts:
    return Facts(uuid4(), uuid4(), status, PLACED, CHANGED, **known)


def attempt(status: PaymentStatus, checkout: str | None = None, **ends: Any) -> list[Attempt]:
    return [Attempt(status, TRIED, MOVED, checkout, **ends)]


STEPS: list[tuple[Status, dict[str, Any], str, datetime]] = [
    (Status.CREATED, {}, "payment by the customer", PLACED),
    (
        *(Status.CREATED, {"attempts": attempt(PaymentStatus.FAILED, "REQUESTED")}),
        *("payment by the customer", PLACED),
    ),
    (
        *(Status.CREATED, {"attempts": attempt(PaymentStatus.PENDING)}),
        *("the payment agent, to capture the money", TRIED),
    ),
    (
        *(Status.CREATED, {"attempts": attempt(PaymentStatus.PENDING, "REQUESTED")}),
        *("Stripe, to open the checkout", TRIED),
    ),
    (
        *(Status.CREATED, {"attempts": attempt(PaymentStatus.PENDING, "READY", ended_at=CHANGED)}),
        *("Stripe, to tell what became of the checkout", CHANGED),
    ),
    *(
        (
            *(
                Status.CREATED,
                {
                    "attempts": attempt(
                        PaymentStatus.PENDING, "READY", completed_at=MOVED, ended_at=end
                    )
                },
            ),
            *("Stripe, to receive the payment, which is on its way", MOVED),
        )
        for end in (None, CHANGED)
    ),
    (
        *(Status.CREATED, {"attempts": attempt(PaymentStatus.SUCCEEDED)}),
        *("the order-status agent, to mark it paid", MOVED),
    ),
    (
        *(Status.CREATED, {"attempts": attempt(PaymentStatus.FAILED)}),
        *("the order-status agent, to cancel it", MOVED),
    ),
    (Status.PAID, {}, "the inventory agent, to reserve the stock", CHANGED),
    (
        *(Status.PAID, {"outcome": "RESERVED", "decided_at": MOVED}),
        *("the order-status agent, to complete it", MOVED),
    ),
    (
        *(Status.PAID, {"outcome": "REJECTED", "decided_at": MOVED}),
        *("the order-status agent, to cancel it", MOVED),
    ),
    (
        *(Status.CANCELLED, {"attempts": attempt(PaymentStatus.SUCCEEDED)}),
        *("the payment agent, to request the refund", CHANGED),
    ),
    (
        *(Status.CANCELLED, {"attempts": attempt(PaymentStatus.REFUNDING)}),
        *("the payment agent, to refund the money", MOVED),
    ),
    (
        *(Status.CANCELLED, {"attempts": attempt(PaymentStatus.REFUNDING, "READY")}),
        *("Stripe, to refund the money", MOVED),
    ),
    (
        *(Status.CANCELLED, {"attempts": attempt(PaymentStatus.REFUND_FAILED)}),
        *("an operator, to refund the money", MOVED),
    ),
    (
        *(Status.CANCELLED, {"attempts": attempt(PaymentStatus.PENDING, "READY")}),
        *("the payment agent, to void the attempt", CHANGED),
    ),
    *(
        (
            *(ended, {"attempts": attempt(PaymentStatus.VOIDED, "READY"), "closing_due_at": DUE}),
            *("Stripe, to close the checkout", MOVED),
        )
        for ended in (Status.CANCELLED, Status.COMPLETED)
    ),
    (
        *(Status.COMPLETED, {"attempts": attempt(PaymentStatus.REFUNDING)}),
        *("the payment agent, to refund the money", MOVED),
    ),
    (
        *(Status.CANCELLED, {"outcome": "RESERVED", "decided_at": MOVED}),
        *("the inventory agent, to release the stock", CHANGED),
    ),
]


@pytest.mark.parametrize(("status", "known", "what", "since"), STEPS)
def test_an_order_waits_for_its_next_step(
    status: Status, known: dict[str, Any], what: str, since: datetime
) -> None:
    assert waiting_for(facts(status, **known)) == (what, since)


@pytest.mark.parametrize(("status", "known", "what", "since"), STEPS[2:])
def test_every_step_of_an_agent_waits_for_the_relay_first(
    status: Status, known: dict[str, Any], what: str, since: datetime
) -> None:
    waiting = waiting_for(facts(status, **known, unsent=UNSENT))
    assert waiting == ("the relay, to send order.paid", MOVED)


def test_a_customer_need_not_wait_for_the_relay() -> None:
    waiting = waiting_for(facts(Status.CREATED, unsent=("order.created", PLACED)))
    assert waiting == ("payment by the customer", PLACED)


@pytest.mark.parametrize(
    ("status", "known"),
    [
        (Status.COMPLETED, {"attempts": attempt(PaymentStatus.SUCCEEDED), "outcome": "RESERVED"}),
        (Status.COMPLETED, {"unsent": ("order.completed", MOVED)}),
        (Status.CANCELLED, {}),
        (Status.CANCELLED, {"attempts": attempt(PaymentStatus.VOIDED)}),
        (Status.CANCELLED, {"attempts": attempt(PaymentStatus.REFUNDED), "outcome": "RELEASED"}),
    ],
)
def test_an_order_that_has_ended_waits_for_nothing(status: Status, known: dict[str, Any]) -> None:
    assert waiting_for(facts(status, **known)) is None


@pytest.mark.parametrize(
    ("status", "attempts", "allowed"),
    [
        (Status.CREATED, [], ["pay", "cancel"]),
        (Status.CREATED, attempt(PaymentStatus.PENDING), ["cancel"]),
        (Status.CREATED, attempt(PaymentStatus.SUCCEEDED), ["cancel"]),
        (Status.PAID, attempt(PaymentStatus.SUCCEEDED), ["cancel"]),
        (Status.COMPLETED, attempt(PaymentStatus.SUCCEEDED), []),
        (Status.CANCELLED, [], []),
    ],
)
def test_the_actions_are_those_the_endpoints_allow(
    status: Status, attempts: list[Attempt], allowed: list[str]
) -> None:
    assert actions(facts(status, attempts=attempts)) == allowed


@pytest.mark.parametrize(
    ("attempts", "allowed"),
    [
        ([], ["pay", "checkout", "cancel"]),
        (attempt(PaymentStatus.PENDING, "REQUESTED"), ["checkout", "cancel"]),
        (attempt(PaymentStatus.PENDING, "READY"), ["checkout", "cancel"]),
        (attempt(PaymentStatus.FAILED, "READY"), ["pay", "checkout", "cancel"]),
        (attempt(PaymentStatus.SUCCEEDED, "READY"), ["cancel"]),
        (attempt(PaymentStatus.PENDING), ["cancel"]),
    ],
)
def test_what_costs_something_may_be_paid_at_stripe(
    attempts: list[Attempt], allowed: list[str]
) -> None:
    assert actions(facts(Status.CREATED, total_minor=1, attempts=attempts)) == allowed


@pytest.mark.parametrize(
    ("latest", "allowed"),
    [
        (PaymentStatus.FAILED, ["pay", "cancel"]),
        (PaymentStatus.PENDING, ["checkout", "cancel"]),
    ],
)
def test_after_too_many_attempts_none_begins_at_stripe(
    latest: PaymentStatus, allowed: list[str]
) -> None:
    failed = attempt(PaymentStatus.FAILED, "REQUESTED") * (MAX_ATTEMPTS - 1)
    tried = [*failed, *attempt(latest, "REQUESTED")]
    order = facts(Status.CREATED, total_minor=1, attempts=tried, tries=len(tried))
    assert actions(order) == allowed


def test_a_customer_pays_on_the_page_that_is_open() -> None:
    ready = attempt(PaymentStatus.PENDING, "READY")
    assert waiting_for(facts(Status.CREATED, attempts=ready, unsent=UNSENT)) == (
        "payment by the customer",
        MOVED,
    )


def test_a_deadline_is_a_timer_only_while_the_order_is_unpaid() -> None:
    told = explanation(facts(Status.CREATED, due_at=MOVED))
    assert told["nextTimer"] == {"kind": "expiry", "at": "2026-01-03T12:02:00.000000Z"}
    assert explanation(facts(Status.PAID, due_at=MOVED))["nextTimer"] is None


def test_the_earlier_of_two_calls_is_the_next_timer() -> None:
    told = explanation(facts(Status.CANCELLED, refund_due_at=DUE, closing_due_at=MOVED))
    assert told["nextTimer"] == {"kind": "closing", "at": "2026-01-03T12:02:00.000000Z"}
    told = explanation(facts(Status.CANCELLED, refund_due_at=MOVED, closing_due_at=DUE))
    assert told["nextTimer"] == {"kind": "refund", "at": "2026-01-03T12:02:00.000000Z"}
