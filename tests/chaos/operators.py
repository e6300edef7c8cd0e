"""Journeys of administrators and operators; the crash happens in what follows the `yield`."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from app.outbox.rows import RELAY
from tests.chaos.crash_stage import Stage
from tests.chaos.load import PLENTIFUL, SCARCE
from tests.chaos.steps import empty_shelf, press, stock, waits
from tests.chaos.waiting import until


async def refused_by_the_broker(stage: Stage) -> AsyncIterator[None]:
    """An event is larger than its topic allows, until an operator raises the topic's limit."""
    order = await stage.load.place(PLENTIFUL)
    await stage.limit("order.payment_requested", 100)
    yield
    await stage.load.pay(order)
    parked = await waits(stage, order, RELAY)
    await stage.limit("order.payment_requested", 1024**2)
    await _replay(stage, parked)
    await stage.load.settle(order, {"COMPLETED"})


async def intervened(stage: Stage) -> AsyncIterator[None]:
    """An operator discards a parked message, and replays what waits behind it."""
    order = await stage.load.place(PLENTIFUL)
    blocker = await stage.block("payments.capture", order["id"])
    await stage.again()
    await stage.load.pay(order)
    await waits(stage, order, "payments.capture")
    yield
    await stage.discard(blocker)
    for row in await stage.waiting(order["id"]):
        await _replay(stage, row["id"])
    await stage.load.settle(order, {"COMPLETED"})


async def restocked(stage: Stage) -> AsyncIterator[None]:
    """An administrator adds a piece; the request is retried if there was no answer."""
    yield
    product_id = stage.load.products[SCARCE]
    await stock(stage, 1)
    seen = await stage.administer("GET", f"/api/products/{product_id}", {200}, {})
    query = "select available from products where id = $1"
    assert seen["availableQuantity"] == await stage.database.fetchval(query, UUID(product_id))


async def stocked(stage: Stage) -> AsyncIterator[None]:
    """An administrator adds a product; a repeated request may find it added already."""
    yield
    product = {"productName": f"Product {uuid4()}", "price": 1, "quantity": 1}
    await stage.administer("POST", "/api/products", {201, 409}, product)
    query = "select count(*) from products where name = $1"
    assert await stage.database.fetchval(query, product["productName"]) == 1


async def failed_refund(stage: Stage) -> str:
    """Return the id of a payment whose refund Stripe refused for good; a retry would succeed."""
    order = await stage.load.place([SCARCE])
    url = await stage.load.check_out(order)
    taken = await empty_shelf(stage)
    await _whims(stage, refunds="refuse")
    await press(stage, url, "pay")
    await stage.load.follow(order)
    await stock(stage, taken)
    payment = await stage.database.fetchval(
        "select id from payments where order_id = $1", order["id"]
    )
    await becomes(stage, payment, "REFUND_FAILED")
    await _whims(stage)
    return str(payment)


async def becomes(stage: Stage, payment: UUID, status: str) -> None:
    """Wait until the payment has that status; its provider calls are made due at once."""

    async def is_there() -> bool:
        await stage.hurry()
        query = "select status = $2 from payments where id = $1"
        return bool(await stage.database.fetchval(query, payment, status))

    await until(is_there, f"the payment is {status}")


async def _replay(stage: Stage, parked_id: UUID) -> None:
    path, body = f"/api/parked/{parked_id}/replay", {"reason": "chaos", "dryRun": False}
    await stage.administer("POST", path, {200, 409}, body)


async def _whims(stage: Stage, **whims: Any) -> None:
    address = f"{stage.stripe.url}/_control/whims"
    async with aiohttp.request("POST", address, json=whims) as answer:
        assert answer.status == 200, await answer.text()
