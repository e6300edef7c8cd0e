"""A customer's orders, page by page."""

import asyncio
import base64
from typing import Any

import pytest

from tests.acceptance.conftest import NewCustomer
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, pointers

Product = dict[str, Any]


def ids(orders: list[dict[str, Any]]) -> list[str]:
    return [order["id"] for order in orders]


@pytest.fixture
async def five(customer: Customer, product: Product) -> list[str]:
    """The ids of five orders, newest first."""
    orders = [await customer.placed(product) for _ in range(5)]
    return ids(orders)[::-1]


@pytest.fixture(scope="module")
async def regular(new_customer: NewCustomer, admin: Admin) -> Customer:
    """A customer with 101 orders."""
    regular, product = new_customer(), await admin.adds()
    for _ in range(10):
        await asyncio.gather(*[regular.admitted(product) for _ in range(10)])
    await regular.admitted(product)
    return regular


async def test_who_ordered_nothing_sees_an_empty_page(customer: Customer) -> None:
    assert await customer.page() == {"data": [], "hasMore": False, "nextCursor": None}


async def test_orders_are_listed_newest_first_and_whole(
    customer: Customer, five: list[str]
) -> None:
    listed = (await customer.page())["data"]
    assert ids(listed) == five
    assert listed[0] == await customer.see(listed[0])


async def test_everyone_sees_their_own_orders_only(
    stranger: Customer, admin: Admin, five: list[str]
) -> None:
    assert (await stranger.page())["data"] == []
    assert not set(five) & set(ids((await admin.page(limit=100))["data"]))


@pytest.mark.parametrize(
    "limit, sizes",
    [(1, [1] * 5), (2, [2, 2, 1]), (3, [3, 2]), (4, [4, 1]), (5, [5]), (6, [5])],
)
async def test_pages_join_without_gap_or_repeat(
    customer: Customer, five: list[str], limit: int, sizes: list[int]
) -> None:
    pages = await customer.walk(limit=limit)
    assert [len(page) for page in pages] == sizes
    assert [id for page in pages for id in ids(page)] == five


async def test_an_order_placed_meanwhile_does_not_move_the_next_page(
    customer: Customer, product: Product, five: list[str]
) -> None:
    first = await customer.page(limit=2)
    await customer.placed(product)
    second = await customer.page(limit=3, cursor=first["nextCursor"])
    assert ids(first["data"] + second["data"]) == five


async def test_a_page_has_20_orders_unless_asked(regular: Customer) -> None:
    page = await regular.page()
    assert (len(page["data"]), page["hasMore"]) == (20, True)


async def test_a_page_has_100_orders_at_most(regular: Customer) -> None:
    page = await regular.page(limit=1000)
    assert (len(page["data"]), page["hasMore"]) == (100, True)


async def test_orders_placed_at_once_are_each_listed_once(regular: Customer) -> None:
    listed = [id for page in await regular.walk(limit=7) for id in ids(page)]
    assert len(listed) == len(set(listed)) == 101


@pytest.mark.parametrize("limit", ["0", "-1", "abc", "", "1.5", "%D9%A1", "1e1", "%00"])
async def test_a_bad_limit_is_refused(customer: Customer, limit: str) -> None:
    assert_problem(await customer.ask("GET", f"/api/orders?limit={limit}"), 400)


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


NO_CURSORS = ["", "x", "abcd", "!!!", "%00", "%C5%BC", "AAAA", "=" * 8, encoded("a" * 2000)]
NO_PLACES = ["5", "null", "[]", "{}", '"x"', "[[],[]]", "[null,null]", "[[null,null],[1,2]]"]


@pytest.mark.parametrize("cursor", [*NO_CURSORS, *map(encoded, NO_PLACES)])
async def test_a_bad_cursor_is_refused(customer: Customer, cursor: str) -> None:
    assert_problem(await customer.ask("GET", f"/api/orders?cursor={cursor}"), 400)


@pytest.mark.parametrize(
    "path", ["/api/orders", "/api/orders/admin", "/api/products", "/api/parked"]
)
async def test_a_bad_cursor_and_a_bad_limit_are_told_at_once(admin: Admin, path: str) -> None:
    refused = await admin.ask("GET", f"{path}?limit=0&cursor=!")
    assert pointers(refused) == {"#/limit", "#/cursor"}


def forged(cursor: str, old: str, new: str) -> str:
    """Return the cursor with its content changed."""
    inside = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    return encoded(inside.replace(old, new))


@pytest.mark.parametrize(
    "moment", ["x", "", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
async def test_a_cursor_of_no_time_is_refused(
    customer: Customer, five: list[str], moment: str
) -> None:
    page = await customer.page(limit=1)
    cursor = forged(page["nextCursor"], page["data"][0]["createdAt"], moment)
    assert_problem(await customer.ask("GET", "/api/orders", params={"cursor": cursor}), 400)


async def test_a_cursor_behind_a_name_or_a_price_that_cannot_be_is_refused(
    customer: Customer, admin: Admin
) -> None:
    await admin.adds()
    await admin.adds()
    impossible = {"productName": "\\u0000", "price": "9" * 30}
    for sort, value in impossible.items():
        page = await customer.page("/api/products", sort=sort, limit=1)
        (first,) = page["data"]
        here = {"productName": first["productName"], "price": str(int(first["price"] * 100))}
        cursor = forged(page["nextCursor"], f'["{here[sort]}"', f'["{value}"')
        query = {"sort": sort, "cursor": cursor}
        assert pointers(await customer.ask("GET", "/api/products", params=query)) == {"#/cursor"}


async def test_a_cursor_is_bound_to_its_filter(customer: Customer, five: list[str]) -> None:
    cursor = (await customer.page(limit=2))["nextCursor"]
    for status in ("CREATED", "COMPLETED"):
        query = {"status": status, "cursor": cursor}
        assert_problem(await customer.ask("GET", "/api/orders", params=query), 400)


async def test_another_s_cursor_shows_none_of_their_orders(
    customer: Customer, stranger: Customer, product: Product, five: list[str]
) -> None:
    await stranger.placed(product)
    query = {"cursor": (await customer.page(limit=2))["nextCursor"]}
    assert_problem(await stranger.ask("GET", "/api/orders", params=query), 400)


async def test_orders_are_listed_by_status(customer: Customer, product: Product) -> None:
    created, cancelled = await customer.placed(product), await customer.placed(product)
    await customer.paid(cancelled, 1)
    await customer.wait_until(cancelled, "CANCELLED")
    completed = await customer.buys(product)
    wanted = {"CREATED": created, "CANCELLED": cancelled, "COMPLETED": completed}
    for status, order in wanted.items():
        assert ids((await customer.page(status=status))["data"]) == [order["id"]]
    assert (await customer.page(status="PAID"))["data"] == []


async def test_pages_of_one_status_join_without_gap_or_repeat(
    customer: Customer, product: Product, five: list[str]
) -> None:
    await customer.buys(product)
    pages = await customer.walk(status="CREATED", limit=2)
    assert [id for page in pages for id in ids(page)] == five


@pytest.mark.parametrize("status", ["", "created", "PAID,CREATED", "x", "%00"])
async def test_an_unknown_status_is_refused(customer: Customer, status: str) -> None:
    assert_problem(await customer.ask("GET", f"/api/orders?status={status}"), 400)
