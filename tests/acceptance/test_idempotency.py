"""A repeated request with an Idempotency-Key has one effect."""

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.acceptance.broker import Broker, value_of
from tests.acceptance.client import Answer, eventually
from tests.acceptance.conftest import Metric
from tests.acceptance.customer import Customer
from tests.acceptance.problems import assert_problem, pointers, slug
from tests.acceptance.records import Records
from tests.acceptance.rows import Rows

Product = dict[str, Any]


@pytest.fixture
def key() -> str:
    """An unused key."""
    return str(uuid4())


def assert_replay(again: Answer, first: Answer) -> None:
    """Assert that the answer is the stored one, marked as a duplicate."""
    assert (first.status, first.body["isDuplicate"]) == (201, False)
    assert (again.status, again.body) == (200, {**first.body, "isDuplicate": True})
    assert again.headers["Location"] == first.headers["Location"]


async def test_the_same_request_again_gets_the_same_order(
    customer: Customer, product: Product, key: str, records: Records
) -> None:
    first = await customer.place(product, key=key)
    stored = await records.traces_of(customer.id)
    assert_replay(await customer.place(product, key=key), first)
    assert await records.traces_of(customer.id) == stored
    assert (stored["orders"], stored["keys"]) == (1, 1)


async def test_without_a_key_the_same_request_is_another_order(
    customer: Customer, product: Product
) -> None:
    first, second = await customer.placed(product), await customer.placed(product)
    assert first["id"] != second["id"]


async def test_a_replay_tells_the_first_answer_though_the_order_moved_on(
    customer: Customer, product: Product, key: str
) -> None:
    first = await customer.place(product, key=key)
    await customer.paid(first.body)
    await customer.wait_until(first.body, "COMPLETED")
    assert_replay(await customer.place(product, key=key), first)


async def test_a_key_is_not_used_for_another_body(
    customer: Customer, product: Product, key: str, records: Records
) -> None:
    await customer.place(product, 1, key=key)
    answer = await customer.place(product, 2, key=key)
    assert_problem(answer, 422)
    assert slug(answer) == "idempotency-key-reused"
    assert (await records.traces_of(customer.id))["orders"] == 1


async def test_a_key_is_not_used_for_another_query(
    customer: Customer, product: Product, key: str
) -> None:
    headers = {"Idempotency-Key": key}
    path = f"/api/orders/{(await customer.placed(product))['id']}/pay"
    assert (await customer.ask("PATCH", f"{path}?amount=499", headers=headers)).status == 200
    answer = await customer.ask("PATCH", f"{path}?amount=498", headers=headers)
    assert_problem(answer, 422)
    assert slug(answer) == "idempotency-key-reused"


async def test_a_key_is_not_used_for_another_path(
    customer: Customer, product: Product, key: str
) -> None:
    order = (await customer.place(product, key=key)).body
    answer = await customer.pay(order, key=key)
    assert_problem(answer, 422)
    assert slug(answer) == "idempotency-key-reused"
    assert (await customer.see(order))["version"] == 1


async def test_two_customers_may_use_one_key(
    customer: Customer, stranger: Customer, product: Product, key: str
) -> None:
    mine, theirs = await customer.placed(product, key=key), await stranger.placed(product, key=key)
    assert mine["id"] != theirs["id"]
    assert (mine["userId"], theirs["userId"]) == (customer.id, stranger.id)


async def test_fifty_requests_with_one_key_at_once_make_one_order(
    customer: Customer, product: Product, key: str, records: Records
) -> None:
    answers = await asyncio.gather(*[customer.place(product, key=key) for _ in range(50)])
    (first,) = [answer for answer in answers if answer.status == 201]
    for again in answers:
        if again is not first:
            assert_replay(again, first)
    traces = await records.traces_of(customer.id)
    assert traces == {"orders": 1, "keys": 1, "events": 1, "payments": 0}


async def test_two_bodies_with_one_key_at_once_make_one_order(
    customer: Customer, product: Product, key: str, records: Records
) -> None:
    quantities = [1, 2] * 5
    answers = await asyncio.gather(*[customer.place(product, n, key=key) for n in quantities])
    assert sorted(answer.status for answer in answers) == [200] * 4 + [201] + [422] * 5
    assert (await records.traces_of(customer.id))["orders"] == 1


BAD_FIRST: dict[str, tuple[int, dict[str, Any]]] = {
    "invalid": (400, {"items": []}),
    "out of stock": (409, {"quantity": 11}),
    "unknown": (404, {"productId": str(uuid4())}),
    "mismatched": (422, {"totalAmount": 1}),
}


@pytest.mark.parametrize("why", BAD_FIRST)
async def test_a_request_that_was_refused_leaves_its_key_free(
    customer: Customer, product: Product, key: str, records: Records, why: str
) -> None:
    status, change = BAD_FIRST[why]
    line = {"productId": product["id"], "quantity": 1, **change}
    assert_problem(await customer.post_order({"items": [line], **change}, key=key), status)
    nothing = {"orders": 0, "keys": 0, "events": 0, "payments": 0}
    assert await records.traces_of(customer.id) == nothing
    assert (await customer.place(product, key=key)).status == 201


async def test_a_quoted_key_is_the_bare_key(customer: Customer, product: Product, key: str) -> None:
    first = await customer.place(product, key=key)
    assert_replay(await customer.place(product, key=f'"{key}"'), first)


@pytest.mark.parametrize("key", ["k" * 255, f'"{"q" * 255}"', "1", "a b", '" "'])
async def test_a_key_has_up_to_255_characters(
    customer: Customer, product: Product, key: str
) -> None:
    first = await customer.place(product, key=key)
    assert_replay(await customer.place(product, key=key), first)


@pytest.mark.parametrize("key", ["", '""', "k" * 256, f'"{"q" * 256}"', "żółć", '"half'])
async def test_a_bad_key_is_refused(
    customer: Customer, product: Product, records: Records, key: str
) -> None:
    assert_problem(await customer.place(product, key=key), 400)
    order = await customer.placed(product)
    assert_problem(await customer.pay(order, key=key), 400)
    assert (await records.traces_of(customer.id))["payments"] == 0


async def test_a_replay_is_answered_by_the_table_once_the_creation_was_read(
    customer: Customer, product: Product, key: str, metric: Metric
) -> None:
    async def from_table() -> float:
        assert_replay(await customer.place(product, key=key), first)
        return await metric("orders_idempotent_replays_total", source="table")

    before = await metric("orders_idempotent_replays_total", source="table")
    first = await customer.place(product, key=key)
    await eventually(from_table, lambda now: now > before)
    reused = await customer.place(product, 2, key=key)
    assert_problem(reused, 422)
    assert slug(reused) == "idempotency-key-reused"


async def test_a_request_whose_first_is_still_running_is_told_to_come_back(
    rows: Rows, customer: Customer, product: Product, key: str
) -> None:
    async with rows.running_request(customer.id, key):
        answer = await customer.place(product, key=key)
    assert_problem(answer, 409)
    assert slug(answer) == "idempotency-in-progress"
    assert int(answer.headers["Retry-After"]) > 0
    assert (await customer.place(product, key=key)).status == 201


async def test_an_event_that_lacks_the_answer_does_not_spoil_its_key(
    customer: Customer, product: Product, key: str, broker: Broker, metric: Metric
) -> None:
    async def told_again() -> float:
        await broker.send("order.created", partition=first.partition, value=lacking)
        return await metric("orders_duplicate_events_total", handler="replays.remember")

    order = await customer.placed(product)
    (first,) = await eventually(lambda: broker.events_of(order), bool)
    event = {**value_of(first), "eventId": str(uuid4()), "idempotencyKey": key}
    lacking = orjson.dumps(event)
    before = await metric("orders_duplicate_events_total", handler="replays.remember")
    await eventually(told_again, lambda now: now > before)
    assert (await customer.place(product, key=key)).status == 201


async def test_the_same_payment_again_gets_the_same_answer(
    customer: Customer, product: Product, key: str, records: Records
) -> None:
    order = await customer.placed(product)
    first = await customer.pay(order, 499, key=key)
    await customer.wait_until(order, "COMPLETED")
    again = await customer.pay(order, 499, key=key)
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert await records.payments(order) == ["SUCCEEDED"]


async def test_a_payment_s_key_is_not_used_for_another_amount(
    customer: Customer, product: Product, key: str
) -> None:
    order = await customer.placed(product)
    await customer.pay(order, 499, key=key)
    answer = await customer.pay(order, 500, key=key)
    assert_problem(answer, 422)
    assert slug(answer) == "idempotency-key-reused"
    await customer.wait_until(order, "COMPLETED")


async def test_fifty_payments_with_one_key_at_once_are_one_payment(
    customer: Customer, product: Product, key: str, records: Records
) -> None:
    order = await customer.placed(product)
    answers = await asyncio.gather(*[customer.pay(order, key=key) for _ in range(50)])
    assert [answer.status for answer in answers] == [200] * 50
    assert all(answer.body == answers[0].body for answer in answers)
    await customer.wait_until(order, "COMPLETED")
    assert await records.payments(order) == ["SUCCEEDED"]


async def test_a_payment_that_was_refused_leaves_its_key_free(
    customer: Customer, product: Product, key: str
) -> None:
    order = await customer.placed(product)
    assert_problem(await customer.pay(order, key=key, if_match='"9"'), 412)
    assert pointers(await customer.pay(order, -1, key=key)) == {"#/amount"}
    await customer.paid(order, key=key)
    await customer.wait_until(order, "COMPLETED")


async def test_a_replayed_payment_is_not_held_against_a_later_version(
    customer: Customer, product: Product, key: str
) -> None:
    order = await customer.placed(product)
    first = await customer.pay(order, key=key, if_match='"1"')
    await customer.wait_until(order, "COMPLETED")
    again = await customer.pay(order, key=key, if_match='"1"')
    assert (again.status, again.body) == (200, first.body)
