"""An order whose event no handler can process waits by itself until an administrator acts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.acceptance.broker import Broker
from tests.acceptance.client import eventually
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import pointers
from tests.acceptance.rows import Rows
from tests.conftest import run_command, run_in_vain

Json = dict[str, Any]
WHY = "the constraint was dropped"
CUSTOMER_FIELDS = {"id", "handler", "state", "attempts", "parkedAt"}
TRACE = {"topic", "partition", "offset", "error"}
Stuck = Callable[[], Awaitable[Json]]


@pytest.fixture
def stuck(customer: Customer, product: Json, admin: Admin, rows: Rows, broker: Broker) -> Stuck:
    """Makes a paid order with two parked events that inventory could now process."""

    async def make() -> Json:
        order = await customer.placed(product)
        async with rows.unreservable(order):
            await customer.paid(order)
            await eventually(lambda: parked(admin, order), lambda found: len(found) == 1)
            (paid,) = [m for m in await broker.events_of(order) if m.topic == "order.paid"]
            await broker.send_again(_as_another(paid))
            await eventually(lambda: parked(admin, order), lambda found: len(found) == 2)
            await customer.buys(product)
        return order

    return make


def _as_another(message: Any) -> Any:
    """Return the same event with another id, which no table knows."""
    id = dict(message.headers)["ce_id"].decode()
    message.value = message.value.replace(id.encode(), (id[:-4] + "beef").encode())
    return message


async def parked(admin: Admin, order: Json, **filters: Any) -> list[Json]:
    """Return the order's parked messages by offset."""
    query = {"orderId": order["id"], **filters}
    answer = await admin.ask("GET", "/api/parked", params=query)
    assert answer.status == 200, answer
    return sorted(answer.body["data"], key=lambda message: message["offset"])


async def discard_others(admin: Admin, handler: str, orders: list[Json]) -> None:
    """Discard what other tests left parked with the handler: it would be refused again."""
    ours = {order["id"] for order in orders}
    pages = await admin.walk("/api/parked", limit=100, handler=handler, state="PARKED")
    for message in (message for page in pages for message in page):
        if message["orderId"] not in ours:
            path = f"/api/parked/{message['id']}/discard"
            answer = await admin.ask("POST", path, json={"reason": WHY})
            assert answer.status == 200, answer


async def test_an_order_stands_still_alone_and_goes_on_after_a_replay(
    stuck: Stuck, customer: Customer, admin: Admin, product: Json
) -> None:
    order = await stuck()
    bad, waiting = await parked(admin, order)
    assert (bad["state"], waiting["state"]) == ("PARKED", "WAITING")
    assert bad["handler"] == "stock.reserve" and "CheckViolation" in bad["error"]
    told = (await customer.ask("GET", f"/api/orders/{order['id']}/explain")).body["parked"]
    assert {message["id"] for message in told} == {bad["id"], waiting["id"]}
    assert all(message.keys() == CUSTOMER_FIELDS for message in told)
    traced = (await admin.ask("GET", f"/api/orders/{order['id']}/explain")).body["parked"]
    assert all(message.keys() == CUSTOMER_FIELDS | TRACE for message in traced)
    assert {message["error"] for message in traced} >= {bad["error"]}

    tried = await replay(admin, bad, reason=WHY)
    assert tried["dryRun"] and (await customer.see(order))["status"] == "PAID"
    done = await replay(admin, bad, reason=WHY, dryRun=False)
    assert [m["events"] for m in done["messages"]] == [["inventory.reserved"], []]
    assert done["messages"] == tried["messages"]
    await customer.wait_until(order, "COMPLETED")
    assert (await admin.see_product(product))["availableQuantity"] == 8, "each order took one"
    assert await parked(admin, order) == []
    assert len(await parked(admin, order, state="REPLAYED")) == 2


async def replay(admin: Admin, message: Json, **body: Any) -> Json:
    """Replay the message; return the actual or, in a dry run, the expected outcome."""
    answer = await admin.ask("POST", f"/api/parked/{message['id']}/replay", json=body)
    assert answer.status == 200, answer
    return dict(answer.body)


def named(admin: Admin) -> str:
    """Return how an administrator is named: an email alone may be what a token says."""
    return f"{admin.email} ({admin.id})"


async def test_the_timeline_tells_administrators_who_replayed_what_and_why(
    stuck: Stuck, admin: Admin
) -> None:
    order = await stuck()
    (bad, _) = await parked(admin, order)
    await replay(admin, bad, reason=WHY, dryRun=False)
    events = await admin.timeline(order)
    done = [event["data"] for event in events if event["type"] == "order.intervened"]
    assert [(d["action"], d["actor"], d["reason"]) for d in done] == [
        ("replay", named(admin), WHY)
    ] * 2


async def test_a_discarded_message_lets_those_behind_it_go_on(
    stuck: Stuck, customer: Customer, admin: Admin
) -> None:
    order = await stuck()
    (bad, _) = await parked(admin, order)
    path = f"/api/parked/{bad['id']}"
    done = (await admin.ask("POST", f"{path}/discard", json={"reason": WHY})).body
    assert [m["state"] for m in done["messages"]] == ["DISCARDED", "REPLAYED"]
    await customer.wait_until(order, "COMPLETED")
    kept = (await admin.ask("GET", path)).body
    assert (kept["state"], kept["resolvedBy"], kept["reason"]) == ("DISCARDED", named(admin), WHY)
    assert order["id"] in kept["value"] and kept["headers"]["ce_type"] == "order.paid"


async def test_an_order_whose_step_was_discarded_takes_it_once_its_events_are_sent_again(
    customer: Customer, product: Json, admin: Admin, rows: Rows
) -> None:
    order = await customer.placed(product)
    async with rows.unreservable(order):
        await customer.paid(order)
        [bad] = await eventually(lambda: parked(admin, order), lambda found: len(found) == 1)
    await admin.ask("POST", f"/api/parked/{bad['id']}/discard", json={"reason": WHY})

    async def awaited() -> str:
        explained = (await customer.ask("GET", f"/api/orders/{order['id']}/explain")).body
        return str(explained["waitingFor"]["what"])

    await eventually(awaited, lambda what: what == "the inventory agent, to reserve the stock")
    await rows.send_again(order)
    await customer.wait_until(order, "COMPLETED")
    assert (await admin.see_product(product))["availableQuantity"] == 9
    types = [event["type"] for event in await customer.timeline(order)]
    assert len(types) == len({*types}) == 7, "each step once, and the discard"


async def test_an_operator_does_the_same_by_command(
    stuck: Stuck, customer: Customer, admin: Admin, rows: Rows, environment: dict[str, str]
) -> None:
    order = await stuck()
    (bad, waiting) = await parked(admin, order)
    why = ("--reason", WHY, "--by", "ops")
    listed, shown, in_vain, tried = await asyncio.gather(
        asyncio.to_thread(run_command, environment, "parked", "list", "--order", order["id"]),
        asyncio.to_thread(run_command, environment, "parked", "show", bad["id"]),
        asyncio.to_thread(run_in_vain, environment, "parked", "replay", bad["id"]),
        asyncio.to_thread(run_command, environment, "parked", "replay", bad["id"], *why),
    )
    first_words = {line.split()[0] for line in listed.splitlines()}
    assert first_words == {bad["id"], waiting["id"]}, "one line a message, whatever its error is"
    assert "order.paid" in shown and "--reason" in in_vain and "dry run" in tried
    assert len(await parked(admin, order)) == 2
    replay = ("parked", "replay", bad["id"], *why, "--apply")
    async with rows.unreservable(order):
        assert "unreservable" in await asyncio.to_thread(run_in_vain, environment, *replay)
    run_command(environment, *replay)
    await customer.wait_until(order, "COMPLETED")
    (done, _) = await parked(admin, order, state="REPLAYED")
    assert (done["resolvedBy"], done["reason"]) == ("ops", WHY)
    assert "already" in run_in_vain(environment, "parked", "discard", bad["id"], *why)


async def test_an_operator_parks_a_message_that_a_handler_crashes_on(
    customer: Customer, admin: Admin, product: Json, broker: Broker, environment: dict[str, str]
) -> None:
    order = await customer.buys(product)
    (paid,) = [m for m in await broker.events_of(order) if m.topic == "order.paid"]
    ref = f"order.paid/{paid.partition}@{paid.offset}"
    garbage = await broker.send("order.paid", value=b"garbage")
    park = ("parked", "park", "--reason", WHY, "--by", "ops", "--message")
    reserve = ("--handler", "stock.reserve")
    refused = {
        "must be one of": (ref, "--handler", "stock.none"),
        "order.cancelled": (ref, "--handler", "stock.release"),
        "no message": (f"order.paid/{paid.partition}@999999999", *reserve),
        "no event": (f"order.paid/{garbage.partition}@{garbage.offset}", *reserve),
    }
    runs = [
        asyncio.to_thread(run_in_vain, environment, *park, *given) for given in refused.values()
    ]
    for told, output in zip(refused, await asyncio.gather(*runs), strict=True):
        assert told in output
    assert await parked(admin, order) == []
    id = run_command(environment, *park, ref, *reserve).split()[0]
    (held,) = await parked(admin, order)
    assert (held["id"], held["offset"], held["holdsOrder"]) == (id, paid.offset, True)
    assert held["error"] == f"Parked by ops: {WHY}"
    assert "before" in run_in_vain(environment, *park, ref, *reserve)
    run_command(environment, "parked", "replay", id, "--reason", WHY, "--apply")
    (done,) = await parked(admin, order, state="REPLAYED")
    assert done["id"] == id

    async def put_aside() -> list[Json]:
        found = (await admin.ask("GET", "/api/parked", params={"handler": "stock.reserve"})).body
        at = (garbage.partition, garbage.offset)
        return [m for m in found["data"] if (m["partition"], m["offset"]) == at]

    # It would be refused again by whoever replays all of the handler.
    (bad,) = await eventually(put_aside, bool)
    await admin.ask("POST", f"/api/parked/{bad['id']}/discard", json={"reason": WHY})


async def test_an_operator_replays_all_of_a_handler_at_once(
    stuck: Stuck, customer: Customer, admin: Admin, environment: dict[str, str]
) -> None:
    orders = [await stuck(), await stuck()]
    handler = (await parked(admin, orders[0]))[0]["handler"]
    await discard_others(admin, handler, orders)
    why = ("--reason", WHY, "--by", "ops")
    assert "--handler" in run_in_vain(environment, "parked", "replay", "--all", *why)
    replay = ("parked", "replay", "--all", "--handler", handler, *why)
    assert "dry run" in run_command(environment, *replay)
    assert len(await parked(admin, orders[0])) == 2
    run_command(environment, *replay, "--apply")
    for order in orders:
        await customer.wait_until(order, "COMPLETED")


@pytest.mark.parametrize("action", ["replay", "discard"])
@pytest.mark.parametrize("body", [{}, {"reason": " "}, {"reason": None}])
async def test_an_intervention_needs_a_reason(
    admin: Admin, customer: Customer, product: Json, rows: Rows, action: str, body: Json
) -> None:
    id = await rows.park(await customer.placed(product))
    answer = await admin.ask("POST", f"/api/parked/{id}/{action}", json=body)
    assert pointers(answer) == {"#/reason"}


async def test_parked_messages_are_listed_page_by_page(
    admin: Admin, customer: Customer, product: Json, rows: Rows
) -> None:
    ids = [await rows.park(await customer.placed(product)) for _ in range(3)]
    for filters in ({}, {"handler": "replays.remember"}, {"state": "PARKED"}):
        pages = [
            [message["id"] for message in page]
            for page in await admin.walk("/api/parked", limit=2, **filters)
        ]
        assert [id for page in pages for id in page][:3] == ids[::-1]
        assert {len(page) for page in pages[:-1]} <= {2}
    assert pointers(await admin.ask("GET", "/api/parked?cursor=x")) == {"#/cursor"}
    assert pointers(await admin.ask("GET", "/api/parked?state=LOST")) == {"#/state"}
