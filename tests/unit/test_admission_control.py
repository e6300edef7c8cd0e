"""The longer a worker's events wait, the fewer new orders it takes."""

from contextlib import nullcontext, suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import REGISTRY, Gauge

import app
from agents import order_status
from app.errors import NotEnoughStock, Overloaded, Problem, ProductNotFound
from app.identity.tokens import Identity
from app.metrics import ADMITTED, WAIT
from app.placing import Basket, PlaceOrder
from app.resilience.admission_control import (
    AIM_SECONDS,
    BURST_SECONDS,
    EASY_SECONDS,
    MEMORY_SECONDS,
    MILESTONE,
    MIN_RATE,
    NOW_SECONDS,
    STEERING,
    UNBOUNDED,
    USUAL_SECONDS,
    Admission,
)
from web import order_actions, order_admission
from web.http.endpoint import declaration_of
from web.orders import OrdersView

STEP = 0.004
LEARNING = 60.0
"""Seconds in which a worker learns how many orders get through."""
OFFERED = 5000
"""Orders offered per second."""
HANDLER = "stock.reserve"
ANN = Identity(uuid4(), None, "USER")


class Clock:
    """A clock that advances only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A worker's admission control with its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.admission = Admission(self.clock)
        self.clock.now += 100

    def wait(self, seconds: float, handler: str = HANDLER, times: int = 1) -> None:
        """Take events that have waited that long."""
        self.admission.note(handler, self.clock.now - seconds, times)

    def admitted(
        self,
        seconds: float = 1.0,
        wait: float | None = None,
        offered: float = OFFERED,
        through: float = 0.0,
    ) -> float:
        """Return the orders admitted per second; with `wait` None, no events are taken."""
        taken = 0
        for _ in range(round(seconds / STEP)):
            self.clock.now += STEP
            if wait is not None:
                self.wait(wait)
            if paid := round(through * STEP):
                with self.admission.taking(MILESTONE, self.clock.now, paid):
                    pass
            taken += sum(self.admission.try_admit() for _ in range(round(offered * STEP)))
        return taken / seconds


@pytest.fixture
def worker() -> Worker:
    return Worker()


ALL = pytest.approx(OFFERED, rel=0.01)
HARDLY_ANY = pytest.approx(MIN_RATE * (1 + BURST_SECONDS / 2), rel=0.15)


def test_all_are_taken_while_no_event_waits_long(worker: Worker) -> None:
    assert worker.admitted(wait=EASY_SECONDS - STEP) == ALL


def test_a_burst_after_a_quiet_night_is_taken(worker: Worker) -> None:
    worker.admitted(wait=AIM_SECONDS)
    worker.clock.now += 12 * 3600
    assert worker.admitted(BURST_SECONDS) == ALL


def test_as_many_are_taken_as_get_through(worker: Worker) -> None:
    worker.admitted(LEARNING, offered=1000, through=1000)
    worker.admitted(BURST_SECONDS, wait=AIM_SECONDS, through=1000)
    assert worker.admitted(wait=AIM_SECONDS, through=1000) == pytest.approx(1000, rel=0.05)
    worker.admitted(2 * NOW_SECONDS, wait=AIM_SECONDS, through=500)
    assert 500 < worker.admitted(wait=AIM_SECONDS, through=500) < 800


@pytest.mark.parametrize("paid", [250, 500, 2000])
def test_what_gets_through_stands_for_others(worker: Worker, paid: int) -> None:
    """Some orders are never paid, and some that were placed elsewhere are paid here."""
    worker.admitted(LEARNING, offered=1000, through=paid)
    worker.admitted(BURST_SECONDS, wait=AIM_SECONDS, through=paid)
    assert worker.admitted(wait=AIM_SECONDS, through=paid) == pytest.approx(1000, rel=0.1)


def test_who_has_no_partitions_takes_as_many_as_before(worker: Worker) -> None:
    worker.admitted(3 * USUAL_SECONDS, offered=500)
    worker.admitted(BURST_SECONDS, wait=AIM_SECONDS)
    assert worker.admitted(wait=AIM_SECONDS) == pytest.approx(500, rel=0.1)


@pytest.mark.parametrize("over", [0.5, 1.0, 1.5])
def test_the_longer_events_wait_the_fewer_are_taken(worker: Worker, over: float) -> None:
    worker.admitted(LEARNING, offered=1000, through=1000)
    worker.admitted(BURST_SECONDS, wait=AIM_SECONDS + over, through=1000)
    aimed_at = 1000 * (1 - STEERING * over)
    admitted = worker.admitted(wait=AIM_SECONDS + over, through=1000)
    assert admitted == pytest.approx(aimed_at, rel=0.05)


def test_a_worker_that_was_idle_takes_few_at_first(worker: Worker) -> None:
    worker.admitted(2.0, offered=1000, through=500)
    assert worker.admitted(wait=AIM_SECONDS, through=1000) < 700


def test_a_few_are_taken_however_long_events_wait(worker: Worker) -> None:
    worker.admitted(LEARNING)
    worker.admitted(wait=90.0)
    assert worker.admitted(wait=90.0) == pytest.approx(MIN_RATE, rel=0.05)


def test_what_counts_is_the_whole_way(worker: Worker) -> None:
    for handler in ("payments.capture", "orders.mark_paid"):
        worker.wait((EASY_SECONDS - STEP) / 2, handler)
    assert worker.admitted(BURST_SECONDS) == ALL
    worker.wait(AIM_SECONDS / 2, "stock.reserve")
    assert worker.admitted() == HARDLY_ANY


def test_the_relay_is_passed_again_and_again(worker: Worker) -> None:
    worker.wait((EASY_SECONDS - STEP) / 2, "relay", times=2)
    assert worker.admitted(BURST_SECONDS) == ALL
    worker.wait(AIM_SECONDS / 2, "relay", times=2)
    assert worker.admitted() == HARDLY_ANY


def test_only_orders_that_were_paid_have_got_through(worker: Worker) -> None:
    worker.admitted(LEARNING, offered=1000, through=1000)
    with worker.admission.taking(HANDLER, worker.clock.now, 10_000):
        assert worker.admission._throughput(worker.clock.now) == pytest.approx(1000, rel=0.1)


def test_what_is_discounted_is_no_new_order(worker: Worker) -> None:
    for _ in range(round(LEARNING / STEP)):
        worker.clock.now += STEP
        assert worker.admission.try_admit()
        worker.admission.discount()
    assert worker.admission._throughput(worker.clock.now) == pytest.approx(0, abs=0.01)


class Creations:
    """Stands in for PostgreSQL: every order ends alike."""

    def __init__(self, end: Exception | tuple[dict[str, Any], bool]) -> None:
        self.end = end

    async def do(self, command: PlaceOrder) -> tuple[dict[str, Any], bool]:
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


@pytest.mark.parametrize(
    ("end", "is_new"),
    [
        (ProductNotFound(), False),
        (NotEnoughStock(), False),
        (({}, True), False),
        (({}, False), True),
        (TimeoutError(), True),
    ],
    ids=["unknown product", "sold out", "replay", "new order", "uncertain"],
)
async def test_only_a_new_order_is_counted_as_one(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    end: Exception | tuple[dict[str, Any], bool],
    is_new: bool,
) -> None:
    admission, moment = worker.admission, worker.clock.now
    monkeypatch.setattr(order_admission, "admission", admission)
    monkeypatch.setattr(order_admission, "_creations", Creations(end))
    with suppress(Problem, TimeoutError):
        await order_admission.admit_and_place(
            PlaceOrder(ANN, Basket({uuid4(): 1}, None), None, "a request")
        )
    assert (admission._admitted.at(moment) > 0) is is_new


@pytest.fixture
def overloaded(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.admitted(wait=AIM_SECONDS)
    worker.wait(AIM_SECONDS)
    monkeypatch.setattr(order_admission, "admission", worker.admission)


class LookUps:
    """Stands in for PostgreSQL: one key is known."""

    async def do(self, key: tuple[UUID, str]) -> bool:
        return key == (ANN.id, "in PostgreSQL")


def new_order(key: str | None = None) -> web.Request:
    """Return a request without the body that it needs."""
    headers = {"Idempotency-Key": key} if key else {}
    return make_mocked_request("POST", "/api/orders", headers)


@pytest.mark.parametrize(
    ("key", "goes_on"),
    [(None, False), ("new", False), ('"in PostgreSQL"', True), ("in the table", True)],
)
async def test_in_overload_only_replays_go_on(
    overloaded: None, monkeypatch: pytest.MonkeyPatch, key: str | None, goes_on: bool
) -> None:
    monkeypatch.setattr(order_admission, "_look_ups", LookUps())
    monkeypatch.setattr(
        order_admission.replays, "is_known", lambda *key: key == (ANN.id, "in the table")
    )
    with nullcontext() if goes_on else pytest.raises(Overloaded):
        await order_admission.shed(new_order(key), ANN)


async def test_a_new_order_is_refused_before_its_body_is_read(
    overloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.http.endpoint.authenticate", lambda request: ANN)
    declared = declaration_of(OrdersView.post)
    assert declared
    with pytest.raises(Overloaded):
        await declared.read(new_order(), {})


async def test_while_there_is_room_no_key_is_looked_up(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_admission, "admission", worker.admission)
    monkeypatch.setattr(order_admission, "_look_ups", None)
    await order_admission.shed(new_order("new"), ANN)


def test_ever_more_are_taken_once_it_has_caught_up(worker: Worker) -> None:
    worker.admitted(LEARNING, offered=500, through=500)
    worker.admitted(wait=AIM_SECONDS)
    first, second = worker.admitted(wait=0.0), worker.admitted(wait=0.0)
    assert 500 < first < second < OFFERED
    assert second == pytest.approx(2 * first, rel=0.05)
    worker.admitted(2, wait=0.0)
    assert worker.admitted(wait=0.0) == ALL


def test_a_handler_without_events_is_not_behind(worker: Worker) -> None:
    worker.wait(5, "stock.reserve")
    assert worker.admitted(MEMORY_SECONDS - STEP) == HARDLY_ANY
    worker.admitted(10)
    assert worker.admitted() == ALL


def test_events_wait_for_those_that_are_under_way(worker: Worker) -> None:
    with worker.admission.taking(HANDLER, worker.clock.now, 1):
        assert worker.admitted(MEMORY_SECONDS - STEP) == ALL
        worker.admitted(5)
        assert worker.admitted() < OFFERED / 2
    worker.admitted(8)
    assert worker.admitted() == ALL


def test_what_waited_long_is_not_forgotten_while_it_is_under_way(worker: Worker) -> None:
    with worker.admission.taking(HANDLER, worker.clock.now - 10, 1):
        worker.clock.now += MEMORY_SECONDS
        assert _seen(WAIT, handler=HANDLER) == pytest.approx(10)
        worker.clock.now += 10
        assert _seen(WAIT, handler=HANDLER) == pytest.approx(10 + MEMORY_SECONDS)


def test_what_waited_while_nobody_could_take_it_does_not_count(worker: Worker) -> None:
    worker.admission.resume()
    worker.clock.now += EASY_SECONDS - STEP
    worker.wait(60)
    assert worker.admitted(BURST_SECONDS) == ALL


def test_a_clock_that_is_set_back_refuses_nobody(worker: Worker) -> None:
    worker.wait(EASY_SECONDS * 10, "stock.reserve")
    worker.clock.now -= 3600
    assert worker.admitted() == ALL


def test_waits_count_after_the_clock_is_set_back(worker: Worker) -> None:
    worker.admitted()
    worker.clock.now -= 3600
    worker.admitted()
    assert worker.admitted(wait=AIM_SECONDS) < OFFERED / 2


def test_operators_see_the_present(worker: Worker) -> None:
    with worker.admission.taking(HANDLER, worker.clock.now - AIM_SECONDS, 1):
        assert _seen(WAIT, handler=HANDLER) == pytest.approx(AIM_SECONDS)
        assert worker.admission.rate() == MIN_RATE
    worker.clock.now += 60
    assert _seen(WAIT, handler=HANDLER) == 0.0
    assert worker.admission.rate() > OFFERED


def test_operators_see_the_limit_that_new_orders_meet(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.admission, "_waits", {})
    monkeypatch.setattr(app.admission, "_rate", UNBOUNDED)
    with worker.admission.taking(HANDLER, worker.clock.now - AIM_SECONDS, 1):
        assert worker.admission.rate() == MIN_RATE
        assert _seen(ADMITTED) == UNBOUNDED


def test_looking_at_the_limit_changes_nothing(worker: Worker) -> None:
    worker.wait(AIM_SECONDS)
    assert worker.admission.rate() == MIN_RATE
    worker.clock.now += MEMORY_SECONDS
    assert worker.admitted() == ALL


def test_every_paid_order_passes_the_milestone() -> None:
    assert order_status.mark_paid.name == MILESTONE


def _seen(gauge: Gauge, **labels: str) -> float:
    value = REGISTRY.get_sample_value(gauge.describe()[0].name, labels)
    assert value is not None
    return value


def test_requests_to_pay_wait_as_events_do(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_actions, "admission", worker.admission)
    monkeypatch.setattr(order_actions, "time", worker.clock)
    order_actions._note_wait(EASY_SECONDS - STEP)
    assert worker.admitted(BURST_SECONDS) == ALL
    order_actions._note_wait(AIM_SECONDS)
    assert worker.admitted() == HARDLY_ANY
