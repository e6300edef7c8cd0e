"""A worker is killed at every point between two effects; its successor finishes what it began."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from app.crashes import Point
from tests.chaos.audit import audit, books
from tests.chaos.crash_sites import (
    COMMANDS,
    TRANSACTION,
    WORKS,
    CrashPoint,
    crash_points,
    works_in_code,
)
from tests.chaos.crash_stage import Stage, stage
from tests.chaos.journeys import JOURNEYS, journey_to
from tests.chaos.operators import becomes, failed_refund
from tests.chaos.waiting import until

BY_WORKERS = [one for one in crash_points() if one[1] not in COMMANDS]
ARMED_FROM_BIRTH = {"expiry.expire_due"}


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One deployment with a worker for all crash points."""
    async with stage(tmp_path_factory.mktemp("crashes")) as scene:
        yield scene


def test_every_crash_point_is_visited() -> None:
    """Fails for an agent, a crash point or a transaction without a journey."""
    assert {point for point, _ in crash_points()} == set(Point)
    assert {subject for _, subject in BY_WORKERS} == set(JOURNEYS)
    assert sorted(works_in_code()) == sorted([*WORKS, *COMMANDS])


@pytest.mark.parametrize("crash_point", BY_WORKERS, ids=":".join)
async def test_its_successor_finishes_what_a_worker_began(
    crash_point: CrashPoint, scene: Stage
) -> None:
    point_and_subject = ":".join(crash_point)
    journey = journey_to(crash_point)(scene)
    await anext(journey)
    if crash_point[1] in ARMED_FROM_BIRTH:
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
        return (await books(scene.deployment)).is_silent

    await until(are_in_order, "the books are in order", 30)


@pytest.mark.parametrize("point", TRANSACTION)
async def test_a_command_that_dies_is_given_again(point: Point, scene: Stage) -> None:
    """The account exists in the end, and can log in."""
    email, word = f"{uuid4()}@example.com", "of an administrator"
    command = ("create-admin", "--email", email, "--password-stdin")
    await scene.command_dies_at(f"{point}:accounts.make_admin", *command, stdin=word)
    await scene.command(*command, stdin=word)
    account = {"email": email, "password": word}
    await scene.load.client.expect({200}, "POST", "/api/auth/login", json=account)


@pytest.mark.parametrize("point", TRANSACTION)
async def test_a_refund_that_was_asked_for_again_is_made_once(point: Point, scene: Stage) -> None:
    """A failed refund stays failed or is requested again; Stripe makes it once."""
    payment = await failed_refund(scene)
    await scene.command_dies_at(f"{point}:payments.retry_refund", "retry-refund", payment)
    if point is Point.WRITTEN:
        await scene.command("retry-refund", payment)
    await becomes(scene, UUID(payment), "REFUNDED")
    # The webhook may tell of the refund before the answer to the call is noted.
    made = (
        "select count(*) = 1 from refunds where payment_id = $1 and provider_refund_id is not null"
    )
    await until(lambda: scene.database.fetchval(made, UUID(payment)), "its one refund is noted")


async def test_after_all_of_it_nothing_is_lost_and_nothing_done_twice(scene: Stage) -> None:
    await audit(scene.deployment, scene.load.ends)
