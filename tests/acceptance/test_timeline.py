"""An order's events as a list and as a live stream, and what it waits for."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from devstack.worker import Worker
from tests.acceptance.client import Api, eventually
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, pointers, slug
from tests.acceptance.rows import Rows
from tests.acceptance.tokens import token

Order = dict[str, Any]

HAPPY = [
    "order.created",
    "order.payment_requested",
    "payment.succeeded",
    "order.paid",
    "inventory.reserved",
    "order.completed",
]


async def events(customer: Customer, order: Order) -> list[dict[str, Any]]:
    answer = await customer.ask("GET", f"/api/orders/{order['id']}/events")
    assert answer.status == 200, answer
    return list(answer.body["data"])


Stream = AsyncIterator[dict[str, str]]


@asynccontextmanager
async def streaming(
    worker: Worker, customer: Customer, order: Order, last: str | None = None
) -> AsyncIterator[Stream]:
    """Stream an order's live events, each as its fields."""
    headers = {"Authorization": f"Bearer {customer.token}", "Accept": "Text/Event-Stream"}
    headers |= {} if last is None else {"Last-Event-ID": last}
    url = f"{worker.url}/api/orders/{order['id']}/events"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["X-Request-Id"]
        yield _fields(answer.content)


async def _fields(lines: aiohttp.StreamReader) -> Stream:
    event: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and not line.startswith(b":"):
            event[name] = value
        elif event:
            yield event
            event = {}


async def take(stream: Stream, count: int) -> list[dict[str, str]]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def test_a_timeline_tells_every_event_in_sequence(
    customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.buys(product, request_id="paid-by-hand")
    told = await events(customer, order)
    assert [event["type"] for event in told] == HAPPY
    assert [event["sequence"] for event in told] == [1, 2, 3, 4, 5, 6]
    assert {event["requestId"] for event in told[1:]} == {"paid-by-hand"}
    assert told[0]["data"]["items"] == order["items"]
    assert told[-1]["data"]["customerEmail"] == customer.email, "where a mail goes"


async def test_a_timeline_keeps_what_is_internal_to_itself(
    customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.placed(product, key="secret key")
    (created,) = await events(customer, order)
    assert not {"answer", "fingerprint", "idempotencyKey"} & created["data"].keys()


async def test_a_customer_is_told_that_somebody_intervened_but_not_who_or_why(
    worker: Worker, customer: Customer, admin: Admin, product: dict[str, Any], rows: Rows
) -> None:
    order = await customer.buys(product)
    path = f"/api/parked/{await rows.park(order)}/discard"
    assert (await admin.ask("POST", path, json={"reason": "x"})).status == 200
    whole = (await events(admin, order))[-1]
    assert whole["type"] == "order.intervened"
    assert whole["data"].keys() == {*("action", "actor", "handler", "messageId", "reason", "topic")}
    told = {**whole, "data": {"action": "discard"}}
    assert (await events(customer, order))[-1] == told
    for who, event in ((customer, told), (admin, whole)):
        async with streaming(worker, who, order, last="6") as stream:
            (sent,) = await take(stream, 1)
        assert json.loads(sent["data"]) == event


async def test_a_stream_tells_what_was_and_then_what_comes(
    worker: Worker, customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.placed(product)
    async with streaming(worker, customer, order) as stream:
        (created,) = await take(stream, 1)
        assert (created["id"], created["event"]) == ("1", "order.created")
        await customer.paid(order)
        rest = await take(stream, 5)
    assert [event["event"] for event in rest] == HAPPY[1:]
    assert [json.loads(event["data"]) for event in [created, *rest]] == await events(
        customer, order
    )


async def test_a_stream_goes_on_behind_the_last_event_that_arrived(
    worker: Worker, customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.buys(product)
    async with streaming(worker, customer, order, last="4") as stream:
        assert [event["id"] for event in await take(stream, 2)] == ["5", "6"]


@pytest.mark.parametrize(
    "accept", ["text/event-stream;q=0", "application/json, text/event-stream;q=0.5"]
)
async def test_a_list_is_told_to_who_would_rather_have_it(
    customer: Customer, product: dict[str, Any], accept: str
) -> None:
    path = f"/api/orders/{(await customer.placed(product))['id']}/events"
    async with asyncio.timeout(20):
        answer = await customer.ask("GET", path, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/json"
    assert len(answer.body["data"]) == 1


async def test_a_head_of_a_stream_is_its_headers_alone(
    worker: Worker, customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.placed(product)
    path = f"/api/orders/{order['id']}/events"
    common = f"Host: orders\r\nAuthorization: Bearer {customer.token}\r\n"
    accept = "Accept: text/event-stream\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(f"HEAD {path} HTTP/1.1\r\n{common}{accept}\r\n".encode())
    writer.write(f"GET {path} HTTP/1.1\r\n{common}Connection: close\r\n\r\n".encode())
    async with asyncio.timeout(20):
        stream, answer, body = (await reader.read()).decode().split("\r\n\r\n")
    writer.close()
    assert stream.startswith("HTTP/1.1 200") and "Content-Type: text/event-stream" in stream
    assert "Content-Length" not in stream
    assert answer.startswith("HTTP/1.1 200") and "Content-Type: application/json" in answer
    assert json.loads(body)["data"]


async def test_a_stream_ends_with_its_token(
    worker: Worker, api: Api, customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.placed(product)
    bearer = token(userId=customer.id, exp=datetime.now(UTC) + timedelta(seconds=3))
    brief = Customer(api, bearer, customer.id, None)
    async with asyncio.timeout(10), streaming(worker, brief, order) as stream:
        assert [event["event"] async for event in stream] == ["order.created"]
    assert_problem(await brief.ask("GET", f"/api/orders/{order['id']}/events"), 401)


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30])
async def test_a_stream_cannot_go_on_behind_what_is_no_event(
    customer: Customer, product: dict[str, Any], last: str
) -> None:
    order = await customer.placed(product)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    answer = await customer.ask("GET", f"/api/orders/{order['id']}/events", headers=headers)
    assert pointers(answer) == {"#"}
    also = await customer.ask("GET", f"/api/orders/{order['id']}/events?page=2", headers=headers)
    assert pointers(also) == {"#", "#/page"}


@pytest.mark.parametrize("what", ["events", "explain"])
async def test_a_timeline_is_the_owner_s_and_the_administrators(
    customer: Customer, stranger: Customer, admin: Admin, product: dict[str, Any], what: str
) -> None:
    order = await customer.placed(product)
    path = f"/api/orders/{order['id']}/{what}"
    headers = {"Accept": "text/event-stream"}
    for more in ({}, {"headers": headers}):
        refused = await stranger.ask("GET", path, **more)
        assert_problem(refused, 403, "You are not allowed to access this order")
    assert (await admin.ask("GET", path)).status == 200
    unknown = await customer.ask("GET", f"/api/orders/{uuid4()}/{what}")
    assert_problem(unknown, 404, "Order not found")


async def explained(customer: Customer, order: Order) -> dict[str, Any]:
    answer = await customer.ask("GET", f"/api/orders/{order['id']}/explain")
    assert answer.status == 200, answer
    return dict(answer.body)


async def test_an_unpaid_order_waits_for_its_customer_until_it_expires(
    customer: Customer, admin: Admin, product: dict[str, Any]
) -> None:
    order = await customer.placed(product)
    told = await explained(customer, order)
    assert told["waitingFor"] == {
        "what": "payment by the customer",
        "since": order["createdAt"],
    }
    assert told["nextTimer"]["kind"] == "expiry"
    assert told["nextTimer"]["at"] > order["createdAt"]
    assert {"pay", "cancel"} <= set(told["actions"])
    assert told["parked"] == []
    assert (await explained(admin, order))["actions"] == ["cancel"], "only its owner may pay"


async def test_a_final_order_waits_for_nothing(customer: Customer, product: dict[str, Any]) -> None:
    order = await customer.buys(product)
    told = await eventually(
        lambda: explained(customer, order), lambda told: told["waitingFor"] is None
    )
    assert (told["status"], told["nextTimer"], told["actions"]) == ("COMPLETED", None, [])


async def test_one_customer_does_not_take_all_streams(
    worker: Worker, customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.placed(product)
    async with AsyncExitStack() as streams:
        for _ in range(20):
            await streams.enter_async_context(streaming(worker, customer, order))
        path = f"/api/orders/{order['id']}/events"
        accept = {"headers": {"Accept": "text/event-stream"}}
        refused = await customer.ask("GET", path, **accept)
        problem = assert_problem(refused, 429)
        assert slug(refused) == "too-many-requests"
        assert "open streams" in problem["detail"]
        assert int(refused.headers["Retry-After"]) > 0
    await customer.cancel(order)  # what is written to a stream shows that its client has gone
    await eventually(lambda: customer.ask("HEAD", path, **accept), lambda one: one.status == 200)
