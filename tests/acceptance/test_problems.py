"""Every problem of the catalogue, provoked over HTTP."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from app import errors
from app.errors import Problem, every_problem
from tests.acceptance.client import Answer, Api
from tests.acceptance.customer import Admin, Customer, basket, headers_for
from tests.acceptance.problems import TYPES, assert_problem, slug
from tests.acceptance.rows import Rows

Json = dict[str, Any]
PASSWORD = "correct horse"


@dataclass
class Scene:
    """The clients and the data that problems are provoked with."""

    api: Api
    admin: Admin
    customer: Customer
    product: Json
    rows: Rows

    async def order(self) -> Json:
        """Place an order of one piece, 499, and do not pay it."""
        return await self.customer.placed(self.product)

    async def cancelled(self) -> Json:
        """Return an order that was cancelled for a wrong payment."""
        order = await self.customer.paid(await self.order(), 1)
        return await self.customer.wait_until(order, "CANCELLED")


@pytest.fixture
def scene(api: Api, admin: Admin, customer: Customer, product: Json, rows: Rows) -> Scene:
    """A new customer, and a product with ten pieces at 499."""
    return Scene(api, admin, customer, product, rows)


Provoke = Callable[[Scene], Awaitable[Answer]]


async def _bad_input(scene: Scene) -> Answer:
    return await scene.customer.post_order({})


async def _no_token(scene: Scene) -> Answer:
    return await scene.api.ask("GET", "/api/orders")


async def _wrong_password(scene: Scene) -> Answer:
    account = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    return await scene.api.ask("POST", "/api/auth/login", json=account)


async def _not_an_administrator(scene: Scene) -> Answer:
    return await scene.customer.ask("POST", "/api/products", json={})


async def _no_such_address(scene: Scene) -> Answer:
    return await scene.api.ask("GET", "/nothing")


async def _no_such_order(scene: Scene) -> Answer:
    return await scene.customer.ask("GET", f"/api/orders/{uuid4()}")


async def _no_such_product(scene: Scene) -> Answer:
    return await scene.customer.ask("GET", f"/api/products/{uuid4()}")


async def _nothing_parked(scene: Scene) -> Answer:
    return await scene.admin.ask("GET", f"/api/parked/{uuid4()}")


async def _a_message_discarded_twice(scene: Scene) -> Answer:
    path = f"/api/parked/{await scene.rows.park(await scene.order())}/discard"
    await scene.admin.ask("POST", path, json={"reason": "x"})
    return await scene.admin.ask("POST", path, json={"reason": "x"})


async def _wrong_method(scene: Scene) -> Answer:
    return await scene.customer.ask("DELETE", "/api/orders")


async def _an_email_twice(scene: Scene) -> Answer:
    account = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    await scene.api.ask("POST", "/api/auth/register", json=account)
    return await scene.api.ask("POST", "/api/auth/register", json=account)


async def _a_name_twice(scene: Scene) -> Answer:
    return await scene.admin.post_product(productName=scene.product["productName"])


async def _more_than_there_is(scene: Scene) -> Answer:
    return await scene.customer.place(scene.product, 11)


async def _pay_too_late(scene: Scene) -> Answer:
    return await scene.customer.pay(await scene.cancelled())


async def _pay_twice(scene: Scene) -> Answer:
    order = await scene.order()
    await scene.rows.add_pending_payment(order)
    return await scene.customer.pay(order)


async def _a_checkout_of_nothing(scene: Scene) -> Answer:
    return await scene.customer.check_out(
        await scene.customer.placed(await scene.admin.adds(price=0))
    )


async def _one_checkout_too_many(scene: Scene) -> Answer:
    order = await scene.order()
    await scene.rows.add_failed_attempts(order, 19)
    assert (await scene.customer.check_out(order)).status == 202
    other = await scene.order()
    await scene.rows.add_failed_attempts(other, 20)
    return await scene.customer.check_out(other)


async def _not_from_stripe(scene: Scene) -> Answer:
    return await scene.api.ask("POST", "/api/stripe/webhook", "{}")


async def _a_key_in_use(scene: Scene) -> Answer:
    async with scene.rows.running_request(scene.customer.id, "key"):
        return await scene.customer.place(scene.product, key="key")


async def _cancel_too_late(scene: Scene) -> Answer:
    return await scene.customer.cancel(await scene.cancelled())


async def _less_than_nothing(scene: Scene) -> Answer:
    return await scene.admin.change(scene.product, addQuantity=-11)


async def _an_old_version(scene: Scene) -> Answer:
    return await scene.customer.pay(await scene.order(), if_match='"9"')


async def _too_large_a_body(scene: Scene) -> Answer:
    return await scene.customer.post_order({"items": "x" * 70_000})


async def _no_json(scene: Scene) -> Answer:
    headers = {"Content-Type": "text/plain"}
    return await scene.customer.ask("POST", "/api/orders", data="{}", headers=headers)


async def _an_odd_expectation(scene: Scene) -> Answer:
    return await scene.customer.ask("GET", "/api/orders", headers={"Expect": "miracles"})


async def _a_key_for_another_order(scene: Scene) -> Answer:
    await scene.customer.placed(scene.product, 1, key="key")
    return await scene.customer.place(scene.product, 2, key="key")


async def _another_total(scene: Scene) -> Answer:
    return await scene.customer.post_order(basket((scene.product, 1), totalAmount=1))


async def _an_order_that_cannot_be_locked(scene: Scene) -> Answer:
    order = await scene.order()
    async with scene.rows.locked(order):
        return await scene.customer.pay(order)


async def _a_state_that_cannot_be(scene: Scene) -> Answer:
    await scene.rows.add_unsettled_key(scene.customer.id, "key")
    body, headers = basket((scene.product, 1)), headers_for(key="key")
    return await scene.customer.ask(
        "POST", "/api/orders", json=body, headers=headers, documented=False
    )


PROVOKED: dict[type[Problem], Provoke] = {
    Problem: _a_state_that_cannot_be,
    errors.InvalidInput: _bad_input,
    errors.BadSignature: _not_from_stripe,
    errors.Unauthorized: _no_token,
    errors.InvalidCredentials: _wrong_password,
    errors.Forbidden: _not_an_administrator,
    errors.NotFound: _no_such_address,
    errors.OrderNotFound: _no_such_order,
    errors.ProductNotFound: _no_such_product,
    errors.ParkedNotFound: _nothing_parked,
    errors.AlreadyResolved: _a_message_discarded_twice,
    errors.MethodNotAllowed: _wrong_method,
    errors.EmailTaken: _an_email_twice,
    errors.ProductNameTaken: _a_name_twice,
    errors.NotEnoughStock: _more_than_there_is,
    errors.NotPayable: _pay_too_late,
    errors.NothingToPay: _a_checkout_of_nothing,
    errors.PaymentInProgress: _pay_twice,
    errors.TooManyAttempts: _one_checkout_too_many,
    errors.NotCancellable: _cancel_too_late,
    errors.StockBelowReserved: _less_than_nothing,
    errors.IdempotencyInProgress: _a_key_in_use,
    errors.StaleVersion: _an_old_version,
    errors.PayloadTooLarge: _too_large_a_body,
    errors.UnsupportedMediaType: _no_json,
    errors.ExpectationFailed: _an_odd_expectation,
    errors.IdempotencyKeyReused: _a_key_for_another_order,
    errors.TotalMismatch: _another_total,
    errors.Unavailable: _an_order_that_cannot_be_locked,
}
ELSEWHERE: dict[type[Problem], str] = {
    errors.Overloaded: "test_overload.py: it takes a flood",
    errors.TooManyRequests: "test_identity.py: it takes a worker with low limits",
    errors.PayAtStripe: "test_live_key.py: it takes a live key",
    errors.ForeignCurrency: "tests/integration/test_restock.py: it takes another STRIPE_CURRENCY",
    errors.BodyTooSlow: "test_limits.py: it takes half a body, as no HTTP client sends it",
}
"""The problems that this table does not provoke, and the tests that do."""


def test_every_problem_is_provoked_here_or_elsewhere() -> None:
    assert PROVOKED.keys() | ELSEWHERE.keys() == set(every_problem())
    assert not PROVOKED.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("problem", PROVOKED, ids=lambda problem: problem.slug)
async def test_a_problem_is_told_by_type_title_and_status(
    scene: Scene, problem: type[Problem]
) -> None:
    answer = await PROVOKED[problem](scene)
    told = assert_problem(answer, problem.status)
    assert (slug(answer), told["title"]) == (problem.slug, problem.title)
    assert ("Retry-After" in answer.headers) == (problem.retry_after is not None)
    assert int(answer.headers.get("Retry-After", "1")) > 0


@pytest.mark.parametrize("problem", every_problem(), ids=lambda problem: problem.slug)
async def test_each_type_leads_to_a_page_that_explains_it(api: Api, problem: type[Problem]) -> None:
    answer = await api.ask("GET", f"/problems/{problem.slug}")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert f"{TYPES}{problem.slug}" in answer.body and problem.title in answer.body


async def test_the_list_of_problems_leads_to_each(api: Api) -> None:
    told = (await api.ask("GET", "/problems")).body
    for problem in every_problem():
        assert f'href="/problems/{problem.slug}"' in told


async def test_a_bug_is_told_without_its_words_and_logged_with_them(
    scene: Scene, logged: Callable[[str], Awaitable[list[str]]]
) -> None:
    answer = await _a_state_that_cannot_be(scene)
    detail = assert_problem(answer, 500)["detail"]
    assert detail == "The request failed; the error was logged"
    (line, *_) = await logged(answer.headers["X-Request-Id"])
    assert "POST /api/orders failed" in line
