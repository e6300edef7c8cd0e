"""The rules of an order's status."""

from datetime import UTC, datetime
from itertools import product
from uuid import uuid4

import pytest

from app.lifecycle import (
    MOVES,
    IllegalMove,
    Order,
    Status,
    cancellable,
    payable,
    payment_flaw,
    shortages,
)

NOW = datetime(2026, 1, 3, 12, tzinfo=UTC)
LEGAL = {
    (Status.CREATED, Status.PAID),
    (Status.CREATED, Status.CANCELLED),
    (Status.PAID, Status.COMPLETED),
    (Status.PAID, Status.CANCELLED),
}


def order(status: Status) -> Order:
    return Order(uuid4(), uuid4(), status, 3, 9999, "PLN", None, None, NOW)


@pytest.mark.parametrize(("start", "end"), list(product(Status, Status)))
def test_an_order_moves_only_where_the_contract_lets_it(start: Status, end: Status) -> None:
    moving = order(start)
    assert moving.may_become(end) == ((start, end) in LEGAL)
    if (start, end) in LEGAL:
        moving.become(end, "why")
        assert (moving.status, moving.cancel_reason) == (end, "why")
    else:
        with pytest.raises(IllegalMove):
            moving.become(end)
        assert moving.status is start


def test_completed_and_cancelled_are_final() -> None:
    assert MOVES[Status.COMPLETED] == MOVES[Status.CANCELLED] == frozenset()


def test_only_a_created_order_is_payable_and_only_an_ended_one_not_cancellable() -> None:
    assert [status for status in Status if payable(status)] == [Status.CREATED]
    assert [status for status in Status if cancellable(status)] == [Status.CREATED, Status.PAID]


def test_each_event_moves_the_version_on_by_one() -> None:
    moving = order(Status.CREATED)
    later = NOW.replace(hour=13)
    assert [moving.advance(later), moving.advance(later)] == [4, 5]
    assert (moving.version, moving.updated_at) == (5, later)


def test_only_the_exact_amount_settles_an_order() -> None:
    assert payment_flaw(9999, 9999) is None
    assert payment_flaw(9998, 9999) == payment_flaw(10000, 9999) == "Incorrect amount"


def test_shortages_tell_what_is_missing_and_nothing_else() -> None:
    pen, ink, cap = uuid4(), uuid4(), uuid4()
    assert shortages({pen: 2, ink: 5, cap: 1}, {pen: 2, ink: 3}) == {ink: 2, cap: 1}
    assert shortages({pen: 2}, {pen: 2}) == {}
