"""When a checkout ends, and how long to wait before a call to Stripe is retried."""

from datetime import UTC, datetime, timedelta

import pytest

from app.checkout import expires_at
from app.stripe.calls import MAX_WAIT, backoff

NOW = datetime(2026, 1, 3, 12, 0, 0, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("deadline", "ends"),
    [
        (timedelta(minutes=30), timedelta(minutes=31)),
        (timedelta(minutes=-1), timedelta(minutes=31)),
        (timedelta(hours=2), timedelta(hours=2)),
        (timedelta(days=365), timedelta(hours=23, minutes=55)),
    ],
)
def test_a_checkout_ends_with_its_order_as_far_as_stripe_takes_that(
    deadline: timedelta, ends: timedelta
) -> None:
    assert expires_at(NOW + deadline, NOW) == (NOW + ends).replace(microsecond=0)


def test_an_order_without_a_deadline_has_the_shortest_checkout() -> None:
    assert expires_at(None, NOW) == (NOW + timedelta(minutes=31)).replace(microsecond=0)


@pytest.mark.parametrize(("attempts", "longest"), [(1, 0.5), (2, 1.0), (5, 8.0), (100, 60.0)])
def test_each_call_waits_twice_as_long_as_the_last_and_no_two_alike(
    attempts: int, longest: float
) -> None:
    waits = {backoff(attempts) for _ in range(20)}
    assert len(waits) > 1
    assert longest / 2 <= min(waits) <= max(waits) <= longest <= MAX_WAIT
