"""Reads from Redis, which never return an older state."""

from typing import Any

import pytest

from tests.acceptance.client import Answer, eventually
from tests.acceptance.conftest import Metric, NewCustomer
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem

Order = dict[str, Any]


async def hits(metric: Metric, kind: str) -> float:
    return await metric("orders_cache_total", kind=kind, outcome="hit")


async def read_from_redis(metric: Metric, reader: Customer, order: Order) -> Answer:
    """Read the order until Redis answers; return that answer.

    An agent that handles the order's events may evict it meanwhile, so a read may be a miss.
    """
    answers = []

    async def read() -> float:
        answers.append(await reader.ask("GET", f"/api/orders/{order['id']}"))
        return await hits(metric, "orders")

    before = await hits(metric, "orders")
    await eventually(read, lambda now: now > before)
    return answers[-1]


@pytest.fixture(scope="module")
async def owner(new_customer: NewCustomer) -> Customer:
    """The owner of the cached orders."""
    return new_customer()


@pytest.fixture(scope="module")
async def product(admin: Admin) -> dict[str, Any]:
    """A product with ten pieces, read once."""
    product = await admin.adds()
    await admin.see_product(product)
    return product


@pytest.fixture(scope="module")
async def cached(owner: Customer, product: dict[str, Any], metric: Metric) -> Order:
    """An order that Redis holds."""
    order = await owner.placed(product, 4)
    await read_from_redis(metric, owner, order)
    return order


async def test_a_second_read_of_a_product_comes_from_redis(
    owner: Customer, product: dict[str, Any], metric: Metric
) -> None:
    before = await hits(metric, "products")
    assert await owner.see_product(product) == product
    assert await hits(metric, "products") == before + 1


async def test_a_later_read_of_an_order_comes_from_redis(
    owner: Customer, cached: Order, metric: Metric
) -> None:
    answer = await read_from_redis(metric, owner, cached)
    assert {**answer.body, "isDuplicate": False} == cached
    assert answer.headers["ETag"] == '"1"'


async def test_a_cached_order_is_not_shown_to_strangers(
    stranger: Customer, admin: Admin, cached: Order, metric: Metric
) -> None:
    refused = await read_from_redis(metric, stranger, cached)
    assert_problem(refused, 403, "You are not allowed to access this order")
    assert (await read_from_redis(metric, admin, cached)).status == 200


async def test_a_cached_order_and_product_are_never_shown_older_than_they_were(
    owner: Customer, cached: Order, product: dict[str, Any]
) -> None:
    versions = [(await owner.paid(cached))["version"]]

    async def read() -> Order:
        seen = await owner.see(cached)
        versions.append(seen["version"])
        return seen

    await eventually(read, lambda seen: seen["status"] == "COMPLETED")
    versions += [(await owner.see(cached))["version"] for _ in range(20)]
    assert versions == sorted(versions)
    assert versions[-1] == 6
    assert await owner.available(product) == 6
