"""Bad input is reported completely and safely, and leaves nothing behind."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from devstack.worker import Worker
from tests.acceptance.client import UNKNOWN_ID, Answer, Api
from tests.acceptance.customer import Admin, Customer, basket
from tests.acceptance.problems import assert_problem, pointers
from tests.acceptance.records import Records

NOTHING = {"orders": 0, "keys": 0, "events": 0, "payments": 0}


async def post(customer: Customer, body: str | bytes, **headers: str) -> Answer:
    """POST the body verbatim as an order."""
    return await customer.ask("POST", "/api/orders", body, headers=headers)


async def test_every_bad_field_is_named(customer: Customer, product: dict[str, Any]) -> None:
    bad = {"id": "no-uuid"}
    body = basket((bad, 1), (product, 0), (bad, "x"), totalAmount=-1)
    assert pointers(await customer.post_order(body)) == {
        "#/items/0/productId",
        "#/items/1/quantity",
        "#/items/2/productId",
        "#/items/2/quantity",
        "#/totalAmount",
    }


async def test_every_bad_part_of_a_request_is_named(customer: Customer) -> None:
    asked = {"headers": {"Idempotency-Key": "k" * 256}}
    bad = await customer.ask("POST", "/api/orders?page=2", json={"items": []}, **asked)
    assert pointers(bad) == {"#/page", "#/items", "#"}


async def test_more_names_than_anybody_needs_are_refused_as_one(
    customer: Customer, product: dict[str, Any]
) -> None:
    names = [f"n{n}" for n in range(101)]
    query = await customer.ask("GET", "/api/orders?" + "&".join(names))
    body = await customer.post_order({**basket((product, 1)), **dict.fromkeys(names)})
    assert pointers(query) == pointers(body) == {"#"}


@pytest.mark.parametrize("body", ["{}", '{"items": null}', '{"items": []}', '{"items": {}}'])
async def test_an_order_without_items_names_them(customer: Customer, body: str) -> None:
    assert pointers(await post(customer, body)) == {"#/items"}


NOT_JSON_OBJECTS = {
    "nothing": b"",
    "no JSON": b"{items: 1}",
    "half of it": b'{"items": [',
    "a name twice": b'{"items": [], "items": []}',
    "two": b"{} {}",
    "an array": b"[]",
    "null": b"null",
    "a text": b'"text"',
    "a number": b"5",
    "no UTF-8": b'{"items": "\xff"}',
    "UTF-16": '{"items": []}'.encode("utf-16"),
    "a huge number": b"1" * 5000,
    "a huge number inside": b'{"items": [{"quantity": ' + b"1" * 5000 + b"}]}",
    "a huge exponent": b'{"items": [{"quantity": 1e99999999999999999999}]}',
    "not a number": b'{"items": [{"quantity": NaN}]}',
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"items":' * 6_000 + b"1" + b"}" * 6_000,
    "deep items": b'{"items":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
}


@pytest.mark.parametrize("kind", NOT_JSON_OBJECTS)
async def test_a_body_that_is_no_order_is_refused(
    customer: Customer, records: Records, kind: str
) -> None:
    assert pointers(await post(customer, NOT_JSON_OBJECTS[kind]))
    assert await records.traces_of(customer.id) == NOTHING


@pytest.mark.parametrize("path", ["/api/orders", "/api/products"])
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded"]
)
async def test_a_body_of_another_type_is_refused(admin: Admin, kind: str, path: str) -> None:
    answer = await admin.ask("POST", path, data=b"{}", headers={"Content-Type": kind})
    assert_problem(answer, 415)


async def test_a_body_beyond_64_kib_is_refused(customer: Customer, records: Records) -> None:
    answer = await post(customer, json.dumps({"items": "x" * 70_000}))
    assert_problem(answer, 413)
    assert await records.traces_of(customer.id) == NOTHING


MISSING_BODIES = [
    ("POST", "/api/orders", {"#/items"}),
    ("POST", "/api/products", {"#/productName", "#/price", "#/quantity"}),
    ("PATCH", f"/api/products/{UNKNOWN_ID}", {"#"}),
    ("POST", "/api/auth/register", {"#/email", "#/password"}),
    ("POST", "/api/auth/login", {"#/email", "#/password"}),
    ("POST", f"/api/parked/{UNKNOWN_ID}/discard", {"#/reason"}),
]


@pytest.mark.parametrize("method, path, fields", MISSING_BODIES)
async def test_a_missing_body_is_told_what_it_lacks(
    admin: Admin, method: str, path: str, fields: set[str]
) -> None:
    for body in (None, b""):  # without a Content-Type, and with one
        assert pointers(await admin.ask(method, path, body)) == fields


SURROGATE = '"\\ud800"'
NUL = '"\\u0000 nul"'


@pytest.mark.parametrize("text", [NUL, SURROGATE], ids=["NUL", "lone surrogate"])
@pytest.mark.parametrize("field", ["productName", "description", "category"])
async def test_text_that_cannot_be_stored_is_named(admin: Admin, field: str, text: str) -> None:
    usual = {"productName": f'"{uuid4()}"', "price": "1", "quantity": "1"}
    fields = ", ".join(f'"{name}": {value}' for name, value in {**usual, field: text}.items())
    answer = await admin.ask("POST", "/api/products", f"{{{fields}}}")
    assert pointers(answer) == {f"#/{field}"}


@pytest.mark.parametrize("text", [NUL, SURROGATE], ids=["NUL", "lone surrogate"])
@pytest.mark.parametrize("path", ["register", "login"])
async def test_credentials_that_cannot_be_stored_are_named(api: Api, path: str, text: str) -> None:
    body = f'{{"email": {text}, "password": {text[:-1]}12345678"}}'
    answer = await api.ask("POST", f"/api/auth/{path}", body)
    assert pointers(answer) == {"#/email", "#/password"}


@pytest.mark.parametrize("text", ['"\\u0000"', SURROGATE, '{"a": 1}', "5", "[]", "null"])
async def test_a_product_id_that_is_none_is_named(customer: Customer, text: str) -> None:
    answer = await post(customer, f'{{"items": [{{"productId": {text}, "quantity": 1}}]}}')
    assert pointers(answer) == {"#/items/0/productId"}


async def test_an_odd_key_of_an_unknown_field_is_ignored(
    customer: Customer, product: dict[str, Any]
) -> None:
    line = f'{{"productId": "{product["id"]}", "quantity": 1, "\\u0000/~": {SURROGATE}}}'
    assert (await post(customer, f'{{"items": [{line}], "x": {NUL}}}')).status == 201


@pytest.mark.parametrize("query", ["category=%00", "category=%FF", "category=%ED%A0%80"])
async def test_an_odd_filter_is_never_our_fault(customer: Customer, query: str) -> None:
    answer = await customer.ask("GET", f"/api/products?{query}")
    assert answer.status in (200, 400), answer


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/orders/", "/api/orders/x/y/z", "//", "/%00"]
)
async def test_an_unknown_address_is_not_found(customer: Customer, path: str) -> None:
    assert_problem(await customer.ask("GET", path), 404)


@pytest.mark.parametrize(
    "method, path, lacks",
    [
        ("POST", "/api/auth/login", {"#/email", "#/password"}),
        ("GET", "/api/auth/me", set()),
        ("POST", "/api/orders", {"#/items"}),
        ("GET", f"/api/orders/{UNKNOWN_ID}", set()),
        ("GET", f"/api/orders/{UNKNOWN_ID}/explain", set()),
        ("POST", f"/api/orders/{UNKNOWN_ID}/cancel", set()),
        ("POST", f"/api/orders/{UNKNOWN_ID}/payments/stripe", set()),
        ("GET", f"/api/products/{UNKNOWN_ID}", set()),
    ],
)
async def test_a_query_that_an_operation_does_not_know_is_refused(
    customer: Customer, method: str, path: str, lacks: set[str]
) -> None:
    assert pointers(await customer.ask(method, f"{path}?reason=fraud")) == {"#/reason", *lacks}


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/docs", "/swagger-ui/index.html", "/console", "/problems", "/problems/forbidden"),
        *("/health", "/metrics", "/openapi.json", "/v3/api-docs", "/asyncapi.json"),
    ],
)
async def test_what_browsers_and_monitors_ask_may_say_more(api: Api, path: str) -> None:
    assert (await api.ask("GET", f"{path}?session_id=x&utm=y&utm=z")).status == 200


WRONG_METHODS = [
    ("DELETE", "/api/orders", {"GET", "POST"}),
    ("PUT", "/api/products", {"GET", "POST"}),
    ("DELETE", f"/api/orders/{UNKNOWN_ID}", {"GET"}),
    ("GET", f"/api/orders/{UNKNOWN_ID}/pay", {"PATCH"}),
    ("GET", "/api/auth/login", {"POST"}),
    ("POST", "/api/auth/me", {"GET"}),
    ("POST", "/health", {"GET"}),
    ("POST", "/metrics", {"GET"}),
]


@pytest.mark.parametrize("method, path, allowed", WRONG_METHODS)
async def test_a_wrong_method_is_told_the_right_ones(
    customer: Customer, method: str, path: str, allowed: set[str]
) -> None:
    answer = await customer.ask(method, path)
    assert_problem(answer, 405)
    assert set(re.split(", *", answer.headers.get("Allow", ""))) >= allowed
    assert method not in answer.headers["Allow"]


NO_GOOD_HTTP: dict[str, tuple[str, str, dict[str, str]]] = {
    "an address beyond all length": ("GET", "/api/orders?cursor=" + "x" * 9000, {}),
    "a method that nobody knows": ("FOO", "/api/orders", {}),
    "an expectation that nobody knows": ("GET", "/api/orders", {"Expect": "miracles"}),
}


@pytest.mark.parametrize("kind", NO_GOOD_HTTP)
async def test_what_is_no_good_http_is_a_problem_too(customer: Customer, kind: str) -> None:
    method, path, headers = NO_GOOD_HTTP[kind]
    answer = await customer.ask(method, path, headers=headers)
    assert 400 <= answer.status < 500
    assert_problem(answer, answer.status)


async def test_what_is_no_good_http_is_logged_with_the_id_of_its_answer(
    api: Api, logged: Callable[[str], Awaitable[list[str]]]
) -> None:
    answer = await api.ask("FOO", "/api/orders")
    assert await logged(f"[{answer.headers['X-Request-Id']}] Refused what is not HTTP")


@pytest.mark.parametrize("path, status", [(f"/nothing/{UNKNOWN_ID}", 404), ("/api/orders", 400)])
async def test_a_problem_names_the_address_that_was_asked(
    customer: Customer, path: str, status: int
) -> None:
    problem = assert_problem(await customer.ask("GET", f"{path}?secret=1"), status)
    assert problem["instance"] == path


@pytest.mark.parametrize(
    "path, instance",
    [
        ("/a%20b%2Fc%00?d", "/a%20b%2Fc%00"),
        ("/api/problems/a%2F%C3%A9", "/api/problems/a%2F%C3%A9"),
        ("/a:b@c;d=e", "/a:b@c;d=e"),
        ('/a"<b>{c}|\\^`[d]', "/a%22%3Cb%3E%7Bc%7D%7C%5C%5E%60%5Bd%5D"),
    ],
)
async def test_a_problem_names_the_address_as_a_uri_does(
    worker: Worker, path: str, instance: str
) -> None:
    # An HTTP client would normalise the address.
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n".encode())
    _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    problem = json.loads(body)
    assert (problem["status"], problem["instance"]) == (404, instance)


async def test_a_type_of_problem_has_one_title_and_many_details(customer: Customer) -> None:
    bad = [await post(customer, "["), await customer.ask("GET", "/api/orders?limit=0")]
    first, second = [assert_problem(answer, 400) for answer in bad]
    assert (first["type"], first["title"]) == (second["type"], second["title"])
    assert first["detail"] != second["detail"]


BAD_ORDERS: list[dict[str, Any]] = [
    {"items": []},
    {"totalAmount": 1},
    {"quantity": 0},
    {"quantity": 11},
    {"productId": UNKNOWN_ID},
    {"productId": "x"},
]


@pytest.mark.parametrize("change", BAD_ORDERS, ids=str)
async def test_a_bad_order_leaves_nothing_behind(
    customer: Customer, product: dict[str, Any], records: Records, change: dict[str, Any]
) -> None:
    line = {"productId": product["id"], "quantity": 1, **change}
    answer = await customer.post_order({"items": [line], **change}, key="once")
    assert_problem(answer, answer.status)
    assert await records.traces_of(customer.id) == NOTHING
