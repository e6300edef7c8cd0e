"""The longer a worker's events wait, the fewer new orders it takes."""

import pytest

from app.backlog import BOUND_SECONDS, EASY_SECONDS, MEMORY_SECONDS, TRICKLE, Backlog


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Chance:
    """Falls evenly: 0.005, 0.015, … 0.995, and again."""

    def __init__(self) -> None:
        self.fell = 0

    def __call__(self) -> float:
        self.fell += 1
        return (self.fell % 100 + 0.5) / 100


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    backlog = Backlog(clock, Chance())
    clock.now += 100
    return backlog


def admitted(backlog: Backlog) -> int:
    """How many of a thousand orders."""
    return sum(backlog.admits() for _ in range(1000))


def test_all_are_taken_while_no_event_waits_long(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - EASY_SECONDS)
    assert admitted(backlog) == 1000


@pytest.mark.parametrize("percent", [25, 50, 75])
def test_the_longer_events_wait_the_fewer_are_taken(
    backlog: Backlog, clock: Clock, percent: int
) -> None:
    wait = BOUND_SECONDS - (BOUND_SECONDS - EASY_SECONDS) * percent / 100
    backlog.note("stock.reserve", clock.now - wait)
    assert admitted(backlog) == percent * 10 + TRICKLE
    assert admitted(backlog) == percent * 10
    clock.now += 1
    assert admitted(backlog) == percent * 10 + TRICKLE


def test_a_trickle_is_taken_however_long_events_wait(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - BOUND_SECONDS * 100)
    backlog.note("orders.complete", clock.now)
    assert admitted(backlog) == TRICKLE
    clock.now += 1
    assert admitted(backlog) == TRICKLE


def test_what_counts_is_the_whole_way(backlog: Backlog, clock: Clock) -> None:
    for handler in ("payments.capture", "orders.mark_paid"):
        backlog.note(handler, clock.now - EASY_SECONDS / 2)
    assert admitted(backlog) == 1000
    backlog.note("stock.reserve", clock.now - BOUND_SECONDS)
    assert admitted(backlog) == TRICKLE


def test_the_relay_is_passed_again_and_again(backlog: Backlog, clock: Clock) -> None:
    backlog.note("relay", clock.now - EASY_SECONDS / 2, times=2)
    assert admitted(backlog) == 1000
    backlog.note("relay", clock.now - BOUND_SECONDS / 2, times=2)
    assert admitted(backlog) == TRICKLE


def test_all_are_taken_again_once_it_has_caught_up(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - 5)
    backlog.note("stock.reserve", clock.now)
    assert admitted(backlog) == 1000


def test_a_handler_without_events_is_not_behind(backlog: Backlog, clock: Clock) -> None:
    backlog.note("stock.reserve", clock.now - 5)
    clock.now += MEMORY_SECONDS
    assert admitted(backlog) == 1000


def test_what_waited_while_nobody_could_take_it_does_not_count(
    backlog: Backlog, clock: Clock
) -> None:
    backlog.resume()
    clock.now += EASY_SECONDS
    backlog.note("stock.reserve", clock.now - 60)
    assert admitted(backlog) == 1000
