"""Customers and administrators with a bearer token, and what they do with it."""

from typing import Any
from uuid import uuid4

from tests.acceptance.client import Answer, Api, eventually

Json = dict[str, Any]

FINAL = {"COMPLETED", "CANCELLED"}


def basket(*lines: tuple[Json, Any], **more: Any) -> Json:
    """Return the body of an order of these (product, quantity) lines."""
    items = [{"productId": product["id"], "quantity": quantity} for product, quantity in lines]
    return {"items": items, **more}


def headers_for(
    key: str | None = None, request_id: str | None = None, if_match: str | None = None
) -> dict[str, str]:
    """Return the optional headers of a request."""
    named = {"Idempotency-Key": key, "X-Request-Id": request_id, "If-Match": if_match}
    return {name: value for name, value in named.items() if value is not None}


class Customer:
    """A customer; `email` is None if the token carries none."""

    def __init__(self, api: Api, token: str, id: str, email: str | None) -> None:
        self._api = api
        self.token, self.id, self.email = token, id, email

    async def ask(self, method: str, path: str, *args: Any, **more: Any) -> Answer:
        """Send one request with the bearer token."""
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return await self._api.ask(method, path, *args, headers=headers, **more)

    async def post_order(self, body: Json, **headers: Any) -> Answer:
        """Ask for an order with this body."""
        return await self.ask("POST", "/api/orders", json=body, headers=headers_for(**headers))

    async def place(self, product: Json, quantity: Any = 1, **headers: Any) -> Answer:
        """Ask for an order of one line."""
        return await self.post_order(basket((product, quantity)), **headers)

    async def placed(self, product: Json, quantity: Any = 1, **headers: Any) -> Json:
        """Place an order of one line; it must be accepted."""
        answer = await self.place(product, quantity, **headers)
        assert answer.status == 201, answer
        return dict(answer.body)

    async def admitted(self, product: Json) -> Json:
        """Place one of many orders in a row; a slow worker admits only so many a second."""
        answer = await eventually(lambda: self.place(product), lambda found: found.status != 503)
        assert answer.status == 201, answer
        return dict(answer.body)

    async def pay(self, order: Json, amount: Any = None, **headers: Any) -> Answer:
        """Ask to pay; without an amount, the exact total."""
        more = {} if amount is None else {"json": {"amount": amount}}
        path = f"/api/orders/{order['id']}/pay"
        return await self.ask("PATCH", path, headers=headers_for(**headers), **more)

    async def paid(self, order: Json, amount: Any = None, **headers: Any) -> Json:
        """Ask to pay and return the order; the request must be accepted."""
        answer = await self.pay(order, amount, **headers)
        assert answer.status == 200, answer
        return dict(answer.body)

    async def cancel(self, order: Json, reason: Any = None, **headers: Any) -> Answer:
        """Ask to cancel the order."""
        more = {} if reason is None else {"json": {"reason": reason}}
        path = f"/api/orders/{order['id']}/cancel"
        return await self.ask("POST", path, headers=headers_for(**headers), **more)

    async def check_out(self, order: Json, **headers: Any) -> Answer:
        """Ask to pay at Stripe."""
        path = f"/api/orders/{order['id']}/payments/stripe"
        return await self.ask("POST", path, headers=headers_for(**headers))

    async def checkout(self, order: Json) -> Json:
        """Return the order's checkout."""
        answer = await self.ask("GET", f"/api/orders/{order['id']}/payments/stripe")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def ready_checkout(self, order: Json) -> Json:
        """Ask for a checkout and return it once Stripe has answered."""
        answer = await self.check_out(order)
        assert answer.status == 202, answer
        return await eventually(
            lambda: self.checkout(order), lambda seen: seen["status"] != "REQUESTED"
        )

    async def timeline(self, order: Json) -> list[Json]:
        """Return the order's events, oldest first."""
        answer = await self.ask("GET", f"/api/orders/{order['id']}/events")
        assert answer.status == 200, answer
        return list(answer.body["data"])

    async def see(self, order: Json) -> Json:
        """Return the order."""
        answer = await self.ask("GET", f"/api/orders/{order['id']}")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def wait_until(self, order: Json, status: str) -> Json:
        """Wait until the order has that status; fails if it ends with another."""
        ends = {status, *FINAL}
        seen = await eventually(lambda: self.see(order), lambda seen: seen["status"] in ends)
        assert seen["status"] == status, seen
        return seen

    async def buys(self, product: Json, quantity: int = 1, **headers: Any) -> Json:
        """Place and pay an order, and wait until it is COMPLETED."""
        order = await self.placed(product, quantity)
        await self.paid(order, **headers)
        return await self.wait_until(order, "COMPLETED")

    async def page(self, path: str = "/api/orders", **query: Any) -> Json:
        """Return one page of a list."""
        answer = await self.ask("GET", path, params=query)
        assert answer.status == 200, answer
        return dict(answer.body)

    async def walk(self, path: str = "/api/orders", **query: Any) -> list[list[Json]]:
        """Return all pages of a list, by nextCursor."""
        pages = [await self.page(path, **query)]
        while pages[-1]["hasMore"]:
            pages.append(await self.page(path, **query, cursor=pages[-1]["nextCursor"]))
        assert pages[-1]["nextCursor"] is None
        return [page["data"] for page in pages]

    async def see_product(self, product: Json) -> Json:
        """Return the product."""
        answer = await self.ask("GET", f"/api/products/{product['id']}")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def available(self, product: Json) -> int:
        """Return how many pieces of the product may be ordered."""
        return int((await self.see_product(product))["availableQuantity"])


class Admin(Customer):
    """An administrator, who may also change the catalogue."""

    async def post_product(self, **fields: Any) -> Answer:
        """Ask for a new product, with a unique name unless one is given."""
        usual = {"productName": f"product {uuid4()}", "price": 499, "quantity": 10}
        return await self.ask("POST", "/api/products", json={**usual, **fields})

    async def adds(self, **fields: Any) -> Json:
        """Add a product and return it."""
        answer = await self.post_product(**fields)
        assert answer.status == 201, answer
        return dict(answer.body)

    async def change(self, product: Json, **fields: Any) -> Answer:
        """Ask to change a product."""
        return await self.ask("PATCH", f"/api/products/{product['id']}", json=fields)

    async def changes(self, product: Json, **fields: Any) -> Json:
        """Change a product and return it."""
        answer = await self.change(product, **fields)
        assert answer.status == 200, answer
        return dict(answer.body)
