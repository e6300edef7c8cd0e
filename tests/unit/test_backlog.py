"""A worker whose events wait too long takes hardly any new orders."""

import pytest

from app.backlog import BOUND_SECONDS, MEMORY_SECONDS, TRICKLE, Backlog


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    backlog = Backlog(clock)
    clock.now += 100
    return backlog


def admitted(backlog: Backlog, orders: int = 100) -> int:
    return sum(backlog.admits() for _ in range(orders))


def test_all_are_taken_while_no_event_waits_long(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - BOUND_SECONDS)
    assert admitted(backlog) == 100


def test_a_trickle_is_taken_while_events_wait_too_long(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - BOUND_SECONDS - 0.1)
    backlog.note("orders.complete", clock.now)
    assert admitted(backlog) == TRICKLE
    clock.now += 1
    assert admitted(backlog) == TRICKLE


def test_what_counts_is_the_whole_way(backlog: Backlog, clock: Clock) -> None:
    for handler in ("payments.capture", "orders.mark_paid"):
        backlog.note(handler, clock.now - BOUND_SECONDS / 2)
    assert admitted(backlog) == 100
    backlog.note("stock.reserve", clock.now - 0.1)
    assert admitted(backlog) == TRICKLE


def test_the_relay_is_passed_again_and_again(backlog: Backlog, clock: Clock) -> None:
    backlog.note("relay", clock.now - BOUND_SECONDS / 2, times=2)
    assert admitted(backlog) == 100
    backlog.note("relay", clock.now - BOUND_SECONDS / 2, times=3)
    assert admitted(backlog) == TRICKLE


def test_all_are_taken_again_once_it_has_caught_up(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - 5)
    backlog.note("stock.reserve", clock.now)
    assert admitted(backlog) == 100


def test_a_handler_without_events_is_not_behind(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - 5)
    clock.now += MEMORY_SECONDS
    assert admitted(backlog) == 100


def test_what_waited_while_nobody_could_take_it_does_not_count(
    backlog: Backlog, clock: Clock
) -> None:
    backlog.resume()
    clock.now += BOUND_SECONDS
    backlog.note("stock.reserve", clock.now - 60)
    assert admitted(backlog) == 100
