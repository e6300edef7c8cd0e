"""The operators' console in a browser."""

from typing import Any

from playwright.async_api import expect

from devstack.worker import Worker
from tests.acceptance.customer import Customer
from tests.browser.conftest import Visit


async def test_an_administrator_sees_what_orders_wait_for_and_how_old_that_is(
    visit: Visit,
    worker: Worker,
    admin_account: dict[str, str],
    customer: Customer,
    product: dict[str, Any],
) -> None:
    order = await customer.placed(product)
    page = visit.page
    await page.goto(f"{worker.url}/console")
    await page.get_by_label("Email").fill(admin_account["email"])
    await page.get_by_label("Password").fill(admin_account["password"])
    await page.get_by_role("button", name="Log in").click()
    row = page.locator("#orders tr", has_text=order["id"])
    await expect(row).to_contain_text("payment by the customer")
    await expect(page.locator("#worker")).to_contain_text("PostgreSQL and Kafka")
    await expect(page.get_by_role("status")).to_contain_text("As of")
    assert visit.complaints == []
    await page.context.set_offline(True)
    await expect(page.get_by_role("status")).to_contain_text("below is as of")
    await expect(row).to_be_visible()
    await page.context.set_offline(False)
    await customer.cancel(order)
    await expect(row).to_have_count(0)
