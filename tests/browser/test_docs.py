"""The documentation in a browser: loaded from this service only, and usable to send requests."""

from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import expect

from devstack.worker import Worker
from tests.acceptance.client import Api
from tests.acceptance.customer import Customer, basket
from tests.browser.conftest import Visit
from tests.browser.swagger import SwaggerUi

ADDRESSES = ("/docs", "/swagger-ui/index.html")


def assert_at_peace(visit: Visit, worker: Worker) -> None:
    """Assert that the page loaded from this service only, without errors or policy violations."""
    assert visit.asked
    assert [url for url in visit.asked if not url.startswith((f"{worker.url}/", "data:"))] == []
    assert visit.complaints == []


@pytest.mark.parametrize("path", ADDRESSES)
async def test_the_page_shows_every_operation(
    visit: Visit, worker: Worker, api: Api, path: str
) -> None:
    document = (await api.ask("GET", "/openapi.json")).body
    await visit.page.goto(worker.url + path)
    operations = sum(len(methods) for methods in document["paths"].values())
    await expect(visit.page.locator(".opblock")).to_have_count(operations)
    await expect(visit.page.locator(".errors-wrapper")).to_have_count(0)
    assert_at_peace(visit, worker)


async def test_the_console_is_whole_by_itself_too(visit: Visit, worker: Worker) -> None:
    await visit.page.goto(f"{worker.url}/console", wait_until="networkidle")
    assert_at_peace(visit, worker)


async def test_an_order_is_placed_through_the_page_by_who_registered_there(
    visit: Visit, worker: Worker, api: Api, product: dict[str, Any]
) -> None:
    account = {"email": f"ada-{uuid4()}@example.com", "password": "correct horse"}
    await visit.page.goto(f"{worker.url}/docs")
    docs = SwaggerUi(visit.page)
    status, user = await docs.tries("post", "/api/auth/register", account)
    assert (status, user["email"]) == (200, account["email"])
    _, login = await docs.tries("post", "/api/auth/login", account)
    await docs.authorises(login["token"])
    status, order = await docs.tries("post", "/api/orders", basket((product, 2)))
    assert (status, order["userId"]) == (201, user["id"])
    ada = Customer(api, login["token"], user["id"], user["email"])
    assert (await ada.see(order)).items() <= order.items()
    assert_at_peace(visit, worker)
