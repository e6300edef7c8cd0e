"""What administrators do: change products, restock, see everyone's orders, watch metrics."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.client import UNKNOWN_ID, Api, eventually
from tests.acceptance.conftest import NewCustomer
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import assert_problem, pointers, slug

Product = dict[str, Any]


async def test_only_what_is_named_changes(admin: Admin, product: Product) -> None:
    changed = await admin.changes(product, price=12.5, category="tools")
    assert changed == {**product, "price": 12.5, "category": "tools"}
    assert await admin.see_product(product) == changed
    emptied = await admin.changes(product, category=None)
    assert emptied == {**changed, "category": None}


async def test_the_log_tells_who_changed_what(
    admin: Admin, product: Product, logged: Callable[[str], Awaitable[list[str]]]
) -> None:
    path = f"/api/products/{product['id']}"
    await admin.changes(product, price=1)
    await admin.see_product(product)
    (line,) = await logged(path)
    assert f"PATCH {path} by administrator {admin.id}" in line


async def test_a_changed_price_counts_for_new_orders_only(
    customer: Customer, admin: Admin, product: Product
) -> None:
    before = await customer.placed(product)
    await admin.changes(product, price=1)
    assert (await customer.placed(product))["totalAmount"] == 1
    assert (await customer.see(before))["totalAmount"] == 499
    await customer.paid(before, 499)
    await customer.wait_until(before, "COMPLETED")


async def test_restocked_pieces_can_be_ordered(
    customer: Customer, admin: Admin, product: Product
) -> None:
    assert_problem(await customer.place(product, 15), 409, "Not enough stock")
    assert (await admin.changes(product, addQuantity=5))["availableQuantity"] == 15
    assert (await customer.place(product, 15)).status == 201


async def test_stock_cannot_fall_below_what_is_reserved(
    customer: Customer, admin: Admin, product: Product
) -> None:
    await customer.buys(product, 4)
    answer = await admin.change(product, addQuantity=-7)
    assert_problem(answer, 409, "The stock cannot fall below what is reserved")
    assert slug(answer) == "stock-below-reserved"
    assert (await admin.changes(product, addQuantity=-6))["availableQuantity"] == 0


BAD_CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"#"}),
    ({"price": None}, {"#/price"}),
    ({"price": -1, "addQuantity": 1.5}, {"#/price", "#/addQuantity"}),
    ({"addQuantity": 10**12}, {"#/addQuantity"}),
    ({"quantity": 5}, {"#/quantity"}),
    ({"category": "\x00"}, {"#/category"}),
]


@pytest.mark.parametrize("changes, named", BAD_CHANGES)
async def test_a_bad_change_is_named_and_changes_nothing(
    admin: Admin, product: Product, changes: dict[str, Any], named: set[str]
) -> None:
    assert pointers(await admin.change(product, **changes)) == named
    assert await admin.see_product(product) == product


async def test_an_unknown_product_cannot_be_changed(admin: Admin) -> None:
    answer = await admin.change({"id": str(uuid4())}, price=1)
    assert_problem(answer, 404, "Product not found")


async def test_an_administrator_lists_everybody_s_orders(
    new_customer: NewCustomer, admin: Admin, product: Product
) -> None:
    ann, bob = new_customer(), new_customer()
    placed = [(await who.placed(product))["id"] for who in (ann, bob, ann)]
    newest = (await admin.page("/api/orders/admin", limit=3))["data"]
    assert [order["id"] for order in newest] == placed[::-1]
    of_ann = await admin.walk("/api/orders/admin", userId=ann.id, limit=1)
    assert [order["id"] for page in of_ann for order in page] == [placed[2], placed[0]]
    cursor = (await admin.page("/api/orders/admin", userId=ann.id, limit=1))["nextCursor"]
    for other in ("/api/orders/admin", f"/api/orders/admin?userId={bob.id}", "/api/orders"):
        refused = await admin.ask("GET", other, params={"cursor": cursor})
        assert pointers(refused) == {"#/cursor"}


async def test_an_administrator_lists_orders_of_a_status(
    customer: Customer, admin: Admin, product: Product
) -> None:
    cancelled, created = await customer.placed(product), await customer.placed(product)
    await customer.cancel(cancelled)
    for status, order in (("CANCELLED", cancelled), ("CREATED", created)):
        found = await admin.page("/api/orders/admin", status=status, userId=customer.id)
        assert [listed["id"] for listed in found["data"]] == [order["id"]]
        (newest, *_) = (await admin.page("/api/orders/admin", status=status))["data"]
        assert newest["status"] == status


ADMINS_ONLY = [
    ("GET", "/api/orders/admin"),
    ("GET", "/api/monitor"),
    ("GET", "/api/parked"),
    ("GET", f"/api/parked/{UNKNOWN_ID}"),
    ("POST", f"/api/parked/{UNKNOWN_ID}/replay"),
    ("POST", f"/api/parked/{UNKNOWN_ID}/discard"),
    ("POST", "/api/products"),
    ("PATCH", f"/api/products/{UNKNOWN_ID}"),
    ("GET", "/faust/"),
    ("GET", "/faust/router/"),
    ("GET", "/faust/table/"),
]


@pytest.mark.parametrize("method, path", ADMINS_ONLY)
async def test_what_is_the_administrators_is_nobody_else_s(
    api: Api, customer: Customer, method: str, path: str
) -> None:
    assert_problem(await api.ask(method, path), 401)
    assert_problem(await customer.ask(method, path), 403)


@pytest.mark.parametrize("query", ["userId=x", "status=SHIPPED", "state=PAID", "limit=1&limit=2"])
async def test_a_bad_filter_is_refused(admin: Admin, query: str) -> None:
    answer = await admin.ask("GET", f"/api/orders/admin?{query}")
    assert pointers(answer) == {f"#/{query.partition('=')[0]}"}


async def test_every_bad_filter_is_named(admin: Admin) -> None:
    answer = await admin.ask("GET", "/api/orders/admin?limit=0&status=PAID&status=PAID&userId=x")
    assert pointers(answer) == {"#/limit", "#/status", "#/userId"}


@pytest.mark.parametrize("path", ["/faust/", "/faust/router/", "/faust/table/"])
async def test_faust_s_pages_are_off_unless_asked_for(admin: Admin, path: str) -> None:
    assert_problem(await admin.ask("GET", path), 404)


async def test_the_monitor_tells_lag_and_what_waits_to_be_sent(
    customer: Customer, admin: Admin, product: Product
) -> None:
    async def watched() -> dict[str, Any]:
        return dict((await admin.ask("GET", "/api/monitor")).body)

    await customer.buys(product)
    told = await eventually(
        watched, lambda told: told["outbox"] == {"waiting": 0, "oldest": None} and told["lag"]
    )
    assert "order.created" in {row["topic"] for row in told["lag"]}
    assert all(row["lag"] == max(row["end"] - row["committed"], 0) for row in told["lag"])
