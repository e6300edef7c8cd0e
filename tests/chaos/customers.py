"""Journeys of customers and of Stripe; the crash happens in what follows a journey's `yield`."""

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import patch
from uuid import uuid4

import aiohttp
import jwt

from app import placing
from app.identity.tokens import USER, Identity
from tests.acceptance.stripe_stand_in import as_bytes, session_event, signed
from tests.acceptance.tokens import token
from tests.chaos.crash_stage import Stage
from tests.chaos.load import PLENTIFUL, SCARCE, Json
from tests.chaos.steps import empty_shelf, press, stock, waits
from tests.chaos.test_relay import open_database, product_ids
from tests.chaos.waiting import until

CROWD = 20


async def placed(stage: Stage) -> AsyncIterator[None]:
    """An order is placed, and paid later."""
    yield
    order = await stage.load.place(PLENTIFUL)
    await stage.load.place_again(order["id"])
    await stage.load.settle(order, {"COMPLETED"})


async def placed_alone(stage: Stage) -> AsyncIterator[None]:
    """An order is placed with an expired key, so that it is placed in a transaction of its own."""
    key = await _key_used_long_ago(stage)
    yield
    order = await stage.load.place(PLENTIFUL, key)
    await stage.load.settle(order, {"COMPLETED"})


async def paid_alone(stage: Stage) -> AsyncIterator[None]:
    """A payment is requested with an expired key, so that it has a transaction of its own."""
    order = await stage.load.place(PLENTIFUL)
    key = await _key_used_long_ago(stage)
    yield
    await stage.load.pay(order, key=key)
    await stage.load.follow(order)
    assert stage.load.ends[order["id"]] == "COMPLETED"


async def placed_together(stage: Stage) -> AsyncIterator[None]:
    """More orders are placed at once than there are transactions for."""
    yield
    orders = await asyncio.gather(*(stage.load.place(PLENTIFUL) for _ in range(CROWD)))
    await asyncio.gather(*(stage.load.settle(order, {"COMPLETED"}) for order in orders))


async def paid_together(stage: Stage) -> AsyncIterator[None]:
    """More orders are paid at once than there are transactions for."""
    orders = await asyncio.gather(*(stage.load.place(PLENTIFUL) for _ in range(CROWD)))
    yield
    await asyncio.gather(*(stage.load.settle(order, {"COMPLETED"}) for order in orders))


async def paid(stage: Stage) -> AsyncIterator[None]:
    """An order is paid."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await stage.load.settle(order, {"COMPLETED"})


async def mailed(stage: Stage) -> AsyncIterator[None]:
    """A customer is mailed about an order; repeated mails have the same Message-ID."""
    without_email, stage.load.token = stage.load.token, token(email="ann@example.com")
    order = await stage.load.place(PLENTIFUL)
    yield
    await stage.load.settle(order, {"COMPLETED"})
    known = f"Message-ID: <{order['id']}.completed@orders>".encode()
    await until(lambda: [m for m in stage.mailbox.mails if known in m.content], "a mail comes")
    stage.load.token = without_email


async def wrongly_paid(stage: Stage) -> AsyncIterator[None]:
    """An order is paid with a wrong amount."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await stage.load.settle(order, {"CANCELLED"}, surplus=1)


async def out_of_stock(stage: Stage) -> AsyncIterator[None]:
    """A paid order is out of stock, so its money is refunded."""
    order = await stage.load.place([SCARCE])
    taken = await empty_shelf(stage)
    yield
    await stage.load.settle(order, {"CANCELLED"})
    await stock(stage, taken)


async def cancelled(stage: Stage) -> AsyncIterator[None]:
    """A customer cancels an order."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await _cancel(stage, order)


async def cancelled_late(stage: Stage) -> AsyncIterator[None]:
    """A customer cancels after the stock is reserved and before the order is completed."""
    order = await stage.load.place(PLENTIFUL)
    blocker = await stage.block("orders.complete", order["id"])
    await stage.again()
    await stage.load.pay(order)
    await waits(stage, order, "orders.complete")
    yield
    await _cancel(stage, order)
    released = "select outcome = 'RELEASED' from reservations where order_id = $1"
    await until(lambda: stage.database.fetchval(released, order["id"]), "the stock is released")
    await stage.discard(blocker)


async def paid_at_stripe(stage: Stage) -> AsyncIterator[None]:
    """An order is paid at Stripe, and Stripe reports it."""
    order = await stage.load.place(PLENTIFUL)
    yield
    await press(stage, await stage.load.check_out(order), "pay")
    await stage.load.follow(order)
    assert stage.load.ends[order["id"]] == "COMPLETED"


async def refunded_at_stripe(stage: Stage) -> AsyncIterator[None]:
    """An order that is out of stock is paid at Stripe, and refunded there."""
    order = await stage.load.place([SCARCE])
    url = await stage.load.check_out(order)
    taken = await empty_shelf(stage)
    yield
    await press(stage, url, "pay")
    await stage.load.follow(order)
    await stock(stage, taken)
    await until(lambda: _payment_is(stage, order, "REFUNDED"), "the money is back")


async def closed_at_stripe(stage: Stage) -> AsyncIterator[None]:
    """A customer cancels an order that has an open Checkout Session at Stripe."""
    order = await stage.load.place(PLENTIFUL)
    url = await stage.load.check_out(order)
    yield
    await _cancel(stage, order)
    done = "select count(*) = 0 from provider_calls where order_id = $1 and done_at is null"
    await until(lambda: stage.database.fetchval(done, order["id"]), "the page is closed")
    assert url


async def expired(stage: Stage) -> AsyncIterator[None]:
    """An order's deadline passes while no worker is alive."""
    order = await stage.load.place(PLENTIFUL)
    await until(lambda: _is_told(stage, order), "its creation is told")
    stage.worker.kill()
    due = "update order_deadlines set due_at = now() where order_id = $1"
    await stage.database.execute(due, order["id"])
    yield
    seen = await stage.load.follow(order)
    assert seen["cancelReason"] == "expired"


async def reported_early(stage: Stage) -> AsyncIterator[None]:
    """Stripe reports the payment of an order before the order is placed."""
    id, customer = uuid4(), Identity(uuid4(), None, USER)
    basket = placing.Basket(dict.fromkeys(await product_ids(stage.deployment), 1), None)
    yield
    async with open_database(stage.deployment) as database:
        query = "select sum(price_minor)::bigint from products where id = any($1)"
        total = await stage.database.fetchval(query, list(basket.pieces))
        await _report(stage, session_event({"id": str(id)}, amount_total=total))
        with patch("app.placing.new_id", lambda: id):
            await placing.place(database, placing.PlaceOrder(customer, basket, None, "chaos"))
    stage.load.ends[str(id)] = "COMPLETED"
    done = "select status = 'COMPLETED' from orders where id = $1"
    await until(lambda: stage.database.fetchval(done, id), "the order is completed")


async def registered(stage: Stage) -> AsyncIterator[None]:
    """A customer registers; a repeated request may find the account registered already."""
    yield
    account = {"email": f"{uuid4()}@example.com", "password": "of a customer"}
    client = stage.load.client
    await client.expect({200, 409}, "POST", "/api/auth/register", json=account)
    await client.expect({200}, "POST", "/api/auth/login", json=account)


async def _key_used_long_ago(stage: Stage) -> str:
    """Insert an Idempotency-Key that has expired and is not deleted yet; return it."""
    key = str(uuid4())
    user = jwt.decode(stage.load.token, options={"verify_signature": False})["userId"]
    use = """
        insert into idempotency_keys (user_id, key, fingerprint, answer, expires_at)
        values ($1, $2, decode(repeat('00', 32), 'hex'), '{}', now())
    """
    await stage.database.execute(use, user, key)
    return key


async def _cancel(stage: Stage, order: Json) -> None:
    await stage.load.cancel(order)
    await stage.load.follow(order)
    assert stage.load.ends[order["id"]] == "CANCELLED"


async def _report(stage: Stage, event: Json) -> None:
    """Send a signed event as Stripe does."""
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
