"""The journeys that lead a worker to each crash point."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from app.crashes import Point
from app.handlers import HANDLERS
from app.mail import MAIL
from app.outbox.rows import RELAY
from tests.chaos import customers, operators
from tests.chaos.crash_sites import CrashPoint
from tests.chaos.crash_stage import Stage
from tests.chaos.poison import discard_poison
from tests.chaos.steps import waits
from tests.chaos.waiting import until

Journey = Callable[[Stage], AsyncIterator[None]]


JOURNEYS: Mapping[str, Journey] = {
    "replays.remember": customers.placed,
    "payments.capture": customers.paid,
    "payments.request_refunds": customers.out_of_stock,
    "payments.refund": customers.out_of_stock,
    "checkout.note_call": customers.paid_at_stripe,
    "stock.reserve": customers.paid,
    "stock.release": customers.cancelled_late,
    "orders.mark_paid": customers.paid,
    "orders.cancel_unpaid": customers.wrongly_paid,
    "orders.complete": customers.paid,
    "orders.cancel_unstocked": customers.out_of_stock,
    "notify.tell_completed": customers.paid,
    "notify.tell_cancelled": customers.cancelled,
    RELAY: customers.paid,
    MAIL: customers.mailed,
    "provider_calls.session": customers.paid_at_stripe,
    "provider_calls.expire": customers.closed_at_stripe,
    "provider_calls.refund": customers.refunded_at_stripe,
    "accounts.register": customers.registered,
    "checkout.request_checkout": customers.paid_at_stripe,
    "expiry.expire_due": customers.expired,
    "intervention.discard": operators.intervened,
    "intervention.replay": operators.intervened,
    "placing.place": customers.placed_alone,
    "placing.place_together": customers.placed_together,
    "orders.cancel_on_request": customers.cancelled,
    "payments.request_payment": customers.paid_alone,
    "payments.request_payments_together": customers.paid_together,
    "catalogue.create_product": operators.stocked,
    "catalogue.update_product": operators.restocked,
    "events.record": customers.paid_at_stripe,
    "events.settle_kept": customers.reported_early,
}
"""The journey to each subject's crash points."""


def journey_to(crash_point: CrashPoint) -> Journey:
    """Return the journey to that crash point. Raises KeyError if there is none."""
    point, subject = crash_point
    if point is Point.HELD_BACK:
        return lambda stage: _behind_a_blocker(stage, subject)
    if subject == RELAY and point in (Point.REFUSED, Point.PARKED):
        return operators.refused_by_the_broker
    if point in (Point.DEAD_LETTERED, Point.PARKED):
        return lambda stage: _poisoned(stage, subject)
    return JOURNEYS[subject]


async def _behind_a_blocker(stage: Stage, handler: str) -> AsyncIterator[None]:
    """Let the handler's message wait behind a parked one of its order, until that is discarded."""
    journey = JOURNEYS[handler](stage)
    await anext(journey)
    order = {"id": list(stage.load.ends)[-1]}
    blocker = await stage.block(handler, order["id"])
    await stage.again()
    yield
    going = asyncio.ensure_future(anext(journey, None))
    await waits(stage, order, handler)
    await stage.discard(blocker)
    await going


async def _poisoned(stage: Stage, handler: str) -> AsyncIterator[None]:
    """Send bytes that are no event, and wait until every reader of the topic has parked them."""
    record = HANDLERS[handler].record
    assert record
    key = uuid4()
    stage.deployment.poison.add(key)
    yield
    async with AIOKafkaProducer(bootstrap_servers=stage.deployment.brokers, acks="all") as producer:
        await producer.send_and_wait(record.topic_name, b"\xff", str(key).encode())
    readers = [name for name, one in HANDLERS.items() if one.record is record]

    async def is_parked_by_all() -> bool:
        return {row["handler"] for row in await stage.waiting(str(key))} == set(readers)

    await until(is_parked_by_all, f"{', '.join(readers)} park it")
    await discard_poison(stage.deployment)
