"""The product catalogue."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.client import UNKNOWN_ID
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import NOT_AMOUNTS, NOT_JSON_NUMBERS, assert_problem, pointers

FIELDS = {
    "id",
    "productName",
    "price",
    "currency",
    "description",
    "category",
    "availableQuantity",
}


async def names_in(customer: Customer, category: str) -> list[str]:
    page = await customer.page("/api/products", category=category)
    return [product["productName"] for product in page["data"]]


@pytest.fixture
async def shelf(admin: Admin) -> str:
    """A category of five products, whose names and prices sort differently."""
    category = f"shelf {uuid4()}"
    for letter, price in zip("cabed", [3, 1, 5, 2, 4], strict=True):
        await admin.adds(productName=f"{category} {letter}", price=price, category=category)
    return category


async def test_an_added_product_is_found_at_its_location(admin: Admin, customer: Customer) -> None:
    name = f"Zażółć {uuid4()}"
    told = {"description": "Yellow", "category": "colour"}
    added = await admin.post_product(productName=name, price=12.5, quantity=7, **told)
    assert added.status == 201
    assert added.body.keys() == FIELDS
    assert (added.body["productName"], added.body["price"]) == (name, Decimal("12.5"))
    assert (added.body["availableQuantity"], added.body["currency"]) == (7, "PLN")
    found = await customer.ask("GET", added.headers["Location"])
    assert (found.status, found.body) == (200, {**added.body, **told})


async def test_a_product_needs_neither_description_nor_category(admin: Admin) -> None:
    product = await admin.adds()
    assert (product["description"], product["category"]) == (None, None)


@pytest.mark.parametrize(
    "price", ["0", "0.01", "499", "499.0", "499.00", "4.99e2", "9999999999999.99"]
)
async def test_a_price_of_at_most_two_decimals_is_kept_exactly(admin: Admin, price: str) -> None:
    text = f'{{"productName": "{uuid4()}", "price": {price}, "quantity": 1}}'
    added = await admin.ask("POST", "/api/products", text)
    assert (added.status, added.body.get("price")) == (201, Decimal(price))


@pytest.mark.parametrize("price", [*NOT_AMOUNTS, "null"])
async def test_a_bad_price_is_named(admin: Admin, price: str) -> None:
    text = f'{{"productName": "{uuid4()}", "price": {price}, "quantity": 1}}'
    assert pointers(await admin.ask("POST", "/api/products", text)) == {"#/price"}


@pytest.mark.parametrize("price", NOT_JSON_NUMBERS, ids=lambda price: price[:24])
async def test_a_price_that_is_no_json_number_is_refused(admin: Admin, price: str) -> None:
    text = f'{{"productName": "{uuid4()}", "price": {price}, "quantity": 1}}'
    assert pointers(await admin.ask("POST", "/api/products", text))


@pytest.mark.parametrize("quantity", [-1, 1.5, "5", True, None, 10**30])
async def test_a_bad_quantity_is_named(admin: Admin, quantity: Any) -> None:
    assert pointers(await admin.post_product(quantity=quantity)) == {"#/quantity"}


@pytest.mark.parametrize("name", ["", "  \t", None, 5, "nul\x00", "x" * 60_000])
async def test_a_bad_name_is_named(admin: Admin, name: Any) -> None:
    assert pointers(await admin.post_product(productName=name)) == {"#/productName"}


async def test_a_name_is_given_once(admin: Admin, product: dict[str, Any]) -> None:
    assert_problem(await admin.post_product(productName=product["productName"]), 409)


async def test_a_refused_product_is_not_in_the_catalogue(admin: Admin) -> None:
    category = str(uuid4())
    await admin.post_product(category=category, price=-1)
    assert await names_in(admin, category) == []


@pytest.mark.parametrize("id", [UNKNOWN_ID, "no-uuid", "%00", "42"])
async def test_an_unknown_product_is_not_found(customer: Customer, id: str) -> None:
    assert_problem(await customer.ask("GET", f"/api/products/{id}"), 404, "Product not found")


async def test_products_are_listed_by_name(customer: Customer, shelf: str) -> None:
    assert await names_in(customer, shelf) == [f"{shelf} {letter}" for letter in "abcde"]


@pytest.mark.parametrize(
    "sort, letters",
    [
        ("productName", "abcde"),
        ("-productName", "edcba"),
        ("price", "aecdb"),
        ("-price", "bdcea"),
        ("createdAt", "cabed"),
        ("-createdAt", "debac"),
    ],
)
async def test_products_are_sorted_as_asked(
    customer: Customer, shelf: str, sort: str, letters: str
) -> None:
    pages = await customer.walk("/api/products", category=shelf, sort=sort, limit=2)
    names = [product["productName"] for page in pages for product in page]
    assert names == [f"{shelf} {letter}" for letter in letters]


async def test_products_of_one_price_are_paged_without_gap_or_repeat(
    admin: Admin, customer: Customer
) -> None:
    category = str(uuid4())
    added = {(await admin.adds(category=category, price=7))["id"] for _ in range(5)}
    pages = await customer.walk("/api/products", category=category, sort="price", limit=2)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {product["id"] for page in pages for product in page} == added


async def test_an_unknown_order_of_products_is_refused(customer: Customer) -> None:
    assert_problem(await customer.ask("GET", "/api/products?sort=colour"), 400)


@pytest.mark.parametrize("limit, sizes", [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (6, [5])])
async def test_pages_of_products_join_without_gap_or_repeat(
    customer: Customer, shelf: str, limit: int, sizes: list[int]
) -> None:
    pages = await customer.walk("/api/products", category=shelf, limit=limit)
    assert [len(page) for page in pages] == sizes
    names = [product["productName"] for page in pages for product in page]
    assert names == [f"{shelf} {letter}" for letter in "abcde"]


async def test_a_cursor_of_products_is_bound_to_its_category(
    customer: Customer, shelf: str
) -> None:
    cursor = (await customer.page("/api/products", category=shelf, limit=2))["nextCursor"]
    for query in ({}, {"category": "other"}, {"category": shelf, "sort": "-price"}):
        answer = await customer.ask("GET", "/api/products", params={**query, "cursor": cursor})
        assert_problem(answer, 400)


@pytest.mark.parametrize("query", ["limit=0", "limit=abc", "limit=", "cursor=", "cursor=abc"])
async def test_a_bad_page_of_products_is_refused(customer: Customer, query: str) -> None:
    assert_problem(await customer.ask("GET", f"/api/products?{query}"), 400)
