"""What leads a worker to a crash point. What follows a journey's `yield` meets the crash."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import aiohttp
from aiokafka import AIOKafkaProducer

from app import orders
from app.crashes import Point
from app.handlers import HANDLERS, RELAY
from app.mail import MAIL
from app.tokens import USER, Identity
from tests.acceptance.stripe_shop import as_bytes, session_event, signed
from tests.chaos.load import PLENTIFUL, SCARCE, Json
from tests.chaos.places import Place
from tests.chaos.poison import discard_poison
from tests.chaos.stage import Stage
from tests.chaos.test_relay import open_database, product_ids
from tests.chaos.waiting import until

Journey = Callable[[Stage], AsyncIterator[None]]


async def placed(stage: Stage) -> AsyncIterator[None]:
    """An order is placed, and paid later."""
    yield
    order = await stage.load.place(PLENTIFUL)
    await stage.load.place_again(order["id"])
    await stage.load.settle(order, {"COMPLETED"})


async def paid(stage: Stage) -> AsyncIterator[None]:
    """An order is paid."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await stage.load.settle(order, {"COMPLETED"})


async def mailed(stage: Stage) -> AsyncIterator[None]:
    """A customer hears of an order, by mails of one Message-ID."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await stage.load.settle(order, {"COMPLETED"})
    known = f"Message-ID: <{order['id']}.completed@orders>".encode()
    await until(lambda: [m for m in stage.mailbox.mails if known in m.content], "a mail comes")


async def wrongly_paid(stage: Stage) -> AsyncIterator[None]:
    """An order is paid with a wrong amount."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await stage.load.settle(order, {"CANCELLED"}, surplus=1)


async def out_of_stock(stage: Stage) -> AsyncIterator[None]:
    """An order is paid of which nothing is left; its money goes back."""
    order = await stage.load.place([SCARCE])
    taken = await _empty_shelf(stage)
    yield
    await stage.load.settle(order, {"CANCELLED"})
    await _stock(stage, taken)


async def cancelled(stage: Stage) -> AsyncIterator[None]:
    """A customer cancels."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await _cancel(stage, order)


async def cancelled_late(stage: Stage) -> AsyncIterator[None]:
    """A customer cancels when everything is set aside, and the order not yet completed."""
    order = await stage.load.place(PLENTIFUL)
    blocker = await stage.block("orders.complete", order["id"])
    await stage.again()
    await stage.load.pay(order)
    await _waits(stage, order, "orders.complete")
    yield
    await _cancel(stage, order)
    released = "select outcome = 'RELEASED' from reservations where order_id = $1"
    await until(lambda: stage.database.fetchval(released, order["id"]), "the stock is released")
    await stage.discard(blocker)


async def paid_at_stripe(stage: Stage) -> AsyncIterator[None]:
    """An order is paid at Stripe, and Stripe reports it."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await _press(stage, await stage.load.check_out(order), "pay")
    await stage.load.follow(order)
    assert stage.load.ends[order["id"]] == "COMPLETED"


async def refunded_at_stripe(stage: Stage) -> AsyncIterator[None]:
    """An order is paid at Stripe of which nothing is left."""
    order = await stage.load.place([SCARCE])
    url = await stage.load.check_out(order)
    taken = await _empty_shelf(stage)
    yield
    await _press(stage, url, "pay")
    await stage.load.follow(order)
    await _stock(stage, taken)
    await until(lambda: _payment_is(stage, order, "REFUNDED"), "the money is back")


async def closed_at_stripe(stage: Stage) -> AsyncIterator[None]:
    """A customer cancels an order that has a page at Stripe."""
    order = await stage.load.place(PLENTIFUL)
    url = await stage.load.check_out(order)
    yield
    await _cancel(stage, order)
    done = "select count(*) = 0 from provider_calls where order_id = $1 and done_at is null"
    await until(lambda: stage.database.fetchval(done, order["id"]), "the page is closed")
    assert url


async def expired(stage: Stage) -> AsyncIterator[None]:
    """The time to pay an order passes while no worker lives."""
    order = await stage.load.place(PLENTIFUL)
    await until(lambda: _is_told(stage, order), "its creation is told")
    stage.worker.kill()
    due = "update order_deadlines set due_at = now() where order_id = $1"
    await stage.database.execute(due, order["id"])
    yield
    seen = await stage.load.follow(order)
    assert seen["cancelReason"] == "expired"


async def reported_early(stage: Stage) -> AsyncIterator[None]:
    """Stripe reports the money of an order that comes after its report."""
    id, customer = uuid4(), Identity(uuid4(), None, USER)
    basket = orders.Basket(dict.fromkeys(await product_ids(stage.shop), 1), None)
    yield
    async with open_database(stage.shop) as database:
        query = "select sum(price_minor)::bigint from products where id = any($1)"
        total = await stage.database.fetchval(query, list(basket.pieces))
        await _report(stage, session_event({"id": str(id)}, amount_total=total))
        with patch("app.placing.uuid4", lambda: id):
            await orders.place(database, customer, basket, None, "chaos")
    stage.load.ends[str(id)] = "COMPLETED"
    done = "select status = 'COMPLETED' from orders where id = $1"
    await until(lambda: stage.database.fetchval(done, id), "the order is completed")


async def refused_by_the_broker(stage: Stage) -> AsyncIterator[None]:
    """An event is larger than its topic takes; the topic takes more when an operator comes."""
    order = await stage.load.place(PLENTIFUL)
    await stage.limit("order.payment_requested", 100)
    yield
    await stage.load.pay(order)
    parked = await _waits(stage, order, RELAY)
    await stage.limit("order.payment_requested", 1024**2)
    await _replay(stage, parked)
    await stage.load.settle(order, {"COMPLETED"})


async def intervened(stage: Stage) -> AsyncIterator[None]:
    """An operator gives a message up, and what waits behind it goes on."""
    order = await stage.load.place(PLENTIFUL)
    blocker = await stage.block("payments.capture", order["id"])
    await stage.again()
    await stage.load.pay(order)
    await _waits(stage, order, "payments.capture")
    yield
    await stage.discard(blocker)
    for row in await stage.waiting(order["id"]):
        await _replay(stage, row["id"])
    await stage.load.settle(order, {"COMPLETED"})


async def restocked(stage: Stage) -> AsyncIterator[None]:
    """An administrator adds a piece, and asks again where there was no answer."""
    yield
    product_id = stage.load.products[SCARCE]
    await _stock(stage, 1)
    seen = await stage.administer("GET", f"/api/products/{product_id}", {200}, {})
    query = "select available from products where id = $1"
    assert seen["availableQuantity"] == await stage.database.fetchval(query, UUID(product_id))


async def stocked(stage: Stage) -> AsyncIterator[None]:
    """An administrator adds a product; asked again, it is there already."""
    yield
    product = {"productName": f"Product {uuid4()}", "price": 1, "quantity": 1}
    await stage.administer("POST", "/api/products", {201, 409}, product)
    query = "select count(*) from products where name = $1"
    assert await stage.database.fetchval(query, product["productName"]) == 1


async def registered(stage: Stage) -> AsyncIterator[None]:
    """A customer makes an account; asked again, it is there already."""
    yield
    account = {"email": f"{uuid4()}@example.com", "password": "of a customer"}
    client = stage.load.client
    await client.expect({200, 409}, "POST", "/api/auth/register", json=account)
    await client.expect({200}, "POST", "/api/auth/login", json=account)


async def parked_refund(stage: Stage) -> str:
    """The id of a payment that Stripe has refused to give back for good; it would do so by now."""
    order = await stage.load.place([SCARCE])
    url = await stage.load.check_out(order)
    taken = await _empty_shelf(stage)
    await _whims(stage, refunds="refuse")
    await _press(stage, url, "pay")
    await stage.load.follow(order)
    await _stock(stage, taken)
    payment = await stage.database.fetchval(
        "select id from payments where order_id = $1", order["id"]
    )
    await becomes(stage, payment, "PARKED")
    await _whims(stage)
    return str(payment)


async def becomes(stage: Stage, payment: UUID, status: str) -> None:
    """Wait until the payment stands there; its calls wait for nothing."""

    async def is_there() -> bool:
        await stage.hurry()
        query = "select status = $2 from payments where id = $1"
        return bool(await stage.database.fetchval(query, payment, status))

    await until(is_there, f"the payment is {status}")


async def _whims(stage: Stage, **whims: Any) -> None:
    address = f"{stage.stripe.url}/_control/whims"
    async with aiohttp.request("POST", address, json=whims) as answer:
        assert answer.status == 200, await answer.text()


JOURNEYS: Mapping[str, Journey] = {
    "replays.remember": placed,
    "payments.capture": paid,
    "payments.request_refunds": out_of_stock,
    "payments.refund": out_of_stock,
    "checkout.note_call": paid_at_stripe,
    "stock.reserve": paid,
    "stock.release": cancelled_late,
    "orders.mark_paid": paid,
    "orders.cancel_unpaid": wrongly_paid,
    "orders.complete": paid,
    "orders.cancel_unstocked": out_of_stock,
    "notify.tell_completed": paid,
    "notify.tell_cancelled": cancelled,
    RELAY: paid,
    MAIL: mailed,
    "provider_calls.session": paid_at_stripe,
    "provider_calls.expire": closed_at_stripe,
    "provider_calls.refund": refunded_at_stripe,
    "accounts.register": registered,
    "checkout.request_checkout": paid_at_stripe,
    "expiry.expire_due": expired,
    "intervention.discard": intervened,
    "intervention.replay": intervened,
    "orders.place": placed,
    "orders.request_cancel": cancelled,
    "payments.request_payment": paid,
    "stock.create_product": stocked,
    "stock.update_product": restocked,
    "stripe_events.record": paid_at_stripe,
    "stripe_events.settle_kept": reported_early,
}
"""By subject: what leads to its points."""


def journey_to(place: Place) -> Journey:
    """What leads there. Raises KeyError where nothing does."""
    point, subject = place
    if point is Point.HELD_BACK:
        return lambda stage: _behind_a_blocker(stage, subject)
    if subject == RELAY and point in (Point.REFUSED, Point.PARKED):
        return refused_by_the_broker
    if point in (Point.BURIED, Point.PARKED):
        return lambda stage: _poisoned(stage, subject)
    return JOURNEYS[subject]


async def _behind_a_blocker(stage: Stage, handler: str) -> AsyncIterator[None]:
    """The handler's message comes behind a parked one of its order, until that is given up."""
    journey = JOURNEYS[handler](stage)
    await anext(journey)
    order = {"id": list(stage.load.ends)[-1]}
    blocker = await stage.block(handler, order["id"])
    await stage.again()
    yield
    going = asyncio.ensure_future(anext(journey, None))
    await _waits(stage, order, handler, "WAITING")
    await stage.discard(blocker)
    await going


async def _poisoned(stage: Stage, handler: str) -> AsyncIterator[None]:
    """Bytes come that are no event."""
    record = HANDLERS[handler].record
    assert record
    key = uuid4()
    stage.shop.poison.add(key)
    yield
    async with AIOKafkaProducer(bootstrap_servers=stage.shop.brokers, acks="all") as producer:
        await producer.send_and_wait(record.topic_name, b"\xff", str(key).encode())
    readers = [name for name, one in HANDLERS.items() if one.record is record]

    async def is_parked_by_all() -> bool:
        return {row["handler"] for row in await stage.waiting(str(key))} == set(readers)

    await until(is_parked_by_all, f"{', '.join(readers)} park it")
    await discard_poison(stage.shop)


async def _waits(stage: Stage, order: Json, handler: str, *states: str) -> UUID:
    """Wait until the latest parked message of the order is the handler's; its id."""

    async def found() -> list[UUID]:
        rows = await stage.waiting(order["id"])
        wanted = states or (("PARKED",) if handler == RELAY else ("WAITING",))
        return [r["id"] for r in rows if r["handler"] == handler and r["state"] in wanted]

    await until(found, f"a message of {handler} waits")
    return (await found())[-1]


async def _replay(stage: Stage, parked_id: UUID) -> None:
    path, body = f"/api/parked/{parked_id}/replay", {"reason": "chaos", "dryRun": False}
    await stage.administer("POST", path, {200, 409}, body)


async def _cancel(stage: Stage, order: Json) -> None:
    await stage.load.cancel(order)
    await stage.load.follow(order)
    assert stage.load.ends[order["id"]] == "CANCELLED"


async def _empty_shelf(stage: Stage) -> int:
    """Take away all of the scarce product; how many pieces that were."""
    query = "select available from products where name = $1"
    available = await stage.database.fetchval(query, SCARCE)
    await _stock(stage, -available)
    return int(available)


async def _stock(stage: Stage, pieces: int) -> None:
    path = f"/api/products/{stage.load.products[SCARCE]}"
    await stage.administer("PATCH", path, {200}, {"addQuantity": pieces})


async def _press(stage: Stage, url: str | None, button: str) -> None:
    assert url, "Stripe has a page"
    address = f"{stage.stripe.url}/c/pay/{url.partition('/c/pay/')[2]}/{button}"
    async with aiohttp.request("POST", address, allow_redirects=False) as answer:
        assert answer.status < 400, await answer.text()


async def _report(stage: Stage, event: Json) -> None:
    """Send an event as Stripe does."""
    body = as_bytes(event)
    headers = {"Stripe-Signature": signed(body, "whsec_stand_in")}
    address = f"{stage.worker.url}/api/stripe/webhook"
    async with aiohttp.request("POST", address, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def _payment_is(stage: Stage, order: Json, status: str) -> bool:
    query = "select status = $2 from payments where order_id = $1"
    return bool(await stage.database.fetchval(query, order["id"], status))


async def _is_told(stage: Stage, order: Json) -> bool:
    query = "select published_at is not null from outbox where order_id = $1 and sequence = 1"
    return bool(await stage.database.fetchval(query, order["id"]))
