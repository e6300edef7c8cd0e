"""The longer a worker's events wait, the fewer new orders it takes."""

import pytest

from agents import order_status
from app.backlog import (
    AIM_SECONDS,
    BURST_SECONDS,
    EASY_SECONDS,
    MEAN_SECONDS,
    MEMORY_SECONDS,
    MILESTONE,
    STEERING,
    TRICKLE,
    Backlog,
)

STEP = 0.004
CARRIED = 1000


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Offered:
    """A worker that gets `CARRIED` orders a second through, and is offered ten times as many."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.backlog = Backlog(self.clock)
        self.clock.now += 100

    def wait(self, seconds: float, handler: str = MILESTONE, times: int = 1) -> None:
        """Events that have waited so long are taken."""
        self.backlog.note(handler, self.clock.now - seconds, 0, times)

    def a_second(self, wait: float | None = None, seconds: float = 1.0) -> float:
        """New orders taken a second, while events wait so long; None leaves the waits alone."""
        taken = 0
        for _ in range(round(seconds / STEP)):
            self.clock.now += STEP
            if wait is not None:
                self.backlog.note(MILESTONE, self.clock.now - wait, round(CARRIED * STEP))
            taken += sum(self.backlog.admits() for _ in range(round(10 * CARRIED * STEP)))
        return taken / seconds


@pytest.fixture
def offered() -> Offered:
    return Offered()


ALL = pytest.approx(10 * CARRIED, rel=0.01)
HARDLY_ANY = pytest.approx(TRICKLE * (1 + BURST_SECONDS / 2), rel=0.06)


def test_all_are_taken_while_no_event_waits_long(offered: Offered) -> None:
    assert offered.a_second(EASY_SECONDS - STEP) == ALL


def test_a_burst_after_a_quiet_night_is_taken(offered: Offered) -> None:
    offered.clock.now += 12 * 3600
    assert all(offered.backlog.admits() for _ in range(CARRIED))


def test_as_many_are_taken_as_get_through_once_events_wait(offered: Offered) -> None:
    offered.a_second(AIM_SECONDS, 5 * MEAN_SECONDS)
    assert offered.a_second(AIM_SECONDS) == pytest.approx(CARRIED, rel=0.02)


@pytest.mark.parametrize("over", [-0.2, 0.5, 1.0, 1.5])
def test_the_longer_events_wait_the_fewer_are_taken(offered: Offered, over: float) -> None:
    offered.a_second(AIM_SECONDS, 5 * MEAN_SECONDS)
    aimed_at = CARRIED * (1 - STEERING * over)
    assert offered.a_second(AIM_SECONDS + over) == pytest.approx(aimed_at, rel=0.02)


def test_who_was_idle_takes_few_until_orders_have_got_through(offered: Offered) -> None:
    offered.wait(AIM_SECONDS)
    assert offered.a_second() == HARDLY_ANY
    assert TRICKLE * 2 < offered.a_second(AIM_SECONDS, MEAN_SECONDS) < CARRIED


def test_a_trickle_is_taken_however_long_events_wait(offered: Offered) -> None:
    offered.a_second(AIM_SECONDS + 1 / STEERING, 5)
    assert offered.a_second(AIM_SECONDS + 1 / STEERING) == HARDLY_ANY
    assert offered.a_second(90.0) == HARDLY_ANY


def test_what_counts_is_the_whole_way(offered: Offered) -> None:
    for handler in ("payments.capture", "orders.mark_paid"):
        offered.wait(EASY_SECONDS / 2, handler)
    assert offered.a_second(seconds=0.5) == ALL
    offered.wait(AIM_SECONDS, "stock.reserve")
    assert offered.a_second(seconds=1.0) == HARDLY_ANY


def test_the_relay_is_passed_again_and_again(offered: Offered) -> None:
    offered.wait(EASY_SECONDS / 2, "relay", times=2)
    assert offered.a_second(seconds=1.0) == ALL
    offered.wait(AIM_SECONDS / 2, "relay", times=2)
    assert offered.a_second(seconds=1.0) == HARDLY_ANY


def test_ever_more_are_taken_once_it_has_caught_up(offered: Offered) -> None:
    offered.a_second(AIM_SECONDS, 5 * MEAN_SECONDS)
    first, second = offered.a_second(0.0), offered.a_second(0.0)
    assert CARRIED < first < second < 4.2 * CARRIED
    assert second == pytest.approx(2 * first, rel=0.05)
    offered.a_second(0.0, 3)
    assert offered.a_second(0.0) == ALL


def test_a_handler_without_events_is_not_behind(offered: Offered) -> None:
    offered.wait(5, "stock.reserve")
    assert offered.a_second(seconds=MEMORY_SECONDS - STEP) < CARRIED
    offered.a_second(seconds=10)
    assert offered.a_second() == ALL


def test_what_waited_while_nobody_could_take_it_does_not_count(offered: Offered) -> None:
    offered.clock.now += 100
    offered.backlog.resume()
    offered.clock.now += EASY_SECONDS
    offered.wait(60)
    assert offered.a_second() == ALL


def test_a_clock_that_is_set_back_refuses_nobody(offered: Offered) -> None:
    assert offered.a_second(0.0, 0.1) == ALL
    offered.clock.now -= 3600
    assert offered.a_second(0.0, 0.1) == ALL
    offered.clock.now -= 3600
    offered.wait(AIM_SECONDS)
    assert offered.a_second() >= TRICKLE * 0.9


def test_every_paid_order_passes_the_milestone() -> None:
    assert order_status.mark_paid.name == MILESTONE
