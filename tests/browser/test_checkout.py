"""A customer pays on the page of Stripe's stand-in, and sees the order end, in a browser."""

from typing import Any

from playwright.async_api import expect

from devstack.worker import Worker
from tests.acceptance.customer import Customer
from tests.browser.conftest import Visit

FOLLOW = """
async ({path, token}) => {
  window.events = []
  const headers = {Authorization: `Bearer ${token}`, Accept: "text/event-stream"}
  const answer = await fetch(path, {headers})
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  const follow = async () => {
    let text = ""
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      text += part.value
      window.events = [...text.matchAll(/^event: (.*)$/gm)].map(match => match[1])
    }
  }
  follow()
}
"""
"""Follows an order's live stream with `fetch`, since EventSource cannot send a token."""
ENDED = "() => window.events.includes('order.completed')"


async def test_a_customer_pays_at_stripe_and_sees_the_order_completed(
    visit: Visit, worker: Worker, customer: Customer, product: dict[str, Any]
) -> None:
    order = await customer.placed(product, 2)
    await visit.page.goto(f"{worker.url}/docs")
    path = f"/api/orders/{order['id']}/events"
    await visit.page.evaluate(FOLLOW, {"path": path, "token": customer.token})

    ready = await customer.ready_checkout(order)
    checkout = await visit.page.context.new_page()
    await checkout.goto(ready["checkoutUrl"])
    await expect(checkout.get_by_text("998.00 PLN").first).to_be_visible()
    await checkout.get_by_role("button", name="Pay", exact=True).click()
    await expect(checkout).to_have_url(f"{worker.url}/swagger-ui/index.html")

    await visit.page.wait_for_function(ENDED)
    assert await visit.page.evaluate("window.events") == [
        *("order.created", "order.checkout_requested", "payment.succeeded"),
        *("order.paid", "inventory.reserved", "order.completed"),
    ]
    assert (await customer.see(order))["status"] == "COMPLETED"
    assert visit.complaints == []
