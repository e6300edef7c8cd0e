"""A worker is killed at every place between two effects; its successor finishes what it began."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.crashes import Point
from tests.chaos.audit import audit, books
from tests.chaos.journeys import JOURNEYS, journey_to
from tests.chaos.places import WORKS, Place, places, works_in_code
from tests.chaos.stage import Stage, stage
from tests.chaos.waiting import until

IN_COMMANDS = {"accounts.make_admin", "payments.retry_refund"}
VISITED = [place for place in places() if place[1] not in IN_COMMANDS]
ARMED_FROM_BIRTH = {"expiry.expire_due"}


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One shop for all visits, and a worker."""
    async with stage(tmp_path_factory.mktemp("crashes")) as scene:
        yield scene


def test_every_place_is_visited() -> None:
    """An agent, a point or a transaction that has no visit fails here."""
    assert {point for point, _ in VISITED} == set(Point)
    assert {subject for _, subject in VISITED} == set(JOURNEYS)
    named = [work for work in works_in_code() if work not in {"work"}]
    assert sorted(map(str, named)) == sorted(WORKS)


@pytest.mark.parametrize("place", VISITED, ids=lambda place: ":".join(place))
async def test_its_successor_finishes_what_a_worker_began(place: Place, scene: Stage) -> None:
    point_and_subject = ":".join(place)
    journey = journey_to(place)(scene)
    await anext(journey)
    if place[1] in ARMED_FROM_BIRTH:
        await scene.live(point_and_subject)
    else:
        await scene.arm(point_and_subject)
    going = asyncio.ensure_future(anext(journey, None))
    try:
        await scene.dies_at(point_and_subject)
        await scene.hurry()
        await scene.live()
        await going
    finally:
        going.cancel()
        if not scene.worker.alive:
            await scene.live()

    async def are_in_order() -> bool:
        return (await books(scene.shop)).is_silent

    await until(are_in_order, "the books are in order")


async def test_after_all_of_it_nothing_is_lost_and_nothing_done_twice(scene: Stage) -> None:
    await audit(scene.shop, scene.load.ends)
