"""Somebody with a bearer token, and what they do with it."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tests.acceptance.client import Answer, Api, eventually

Json = dict[str, Any]

FINAL = {"COMPLETED", "CANCELLED"}


def basket(*lines: tuple[Json, Any], **more: Any) -> Json:
    """The body of an order of these (product, quantity) lines."""
    items = [{"productId": product["id"], "quantity": quantity} for product, quantity in lines]
    return {"items": items, **more}


def headers_for(
    key: str | None = None, request_id: str | None = None, if_match: str | None = None
) -> dict[str, str]:
    """The optional headers of a request."""
    named = {"Idempotency-Key": key, "X-Request-Id": request_id, "If-Match": if_match}
    return {name: value for name, value in named.items() if value is not None}


class Customer:
    """`email` is None where the token carries none."""

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
        """An order of one line that was accepted."""
        answer = await self.place(product, quantity, **headers)
        assert answer.status == 201, answer
        return dict(answer.body)

    async def pay(self, order: Json, amount: Any = None, **headers: Any) -> Answer:
        """Ask to pay; without an amount, the exact total."""
        more = {} if amount is None else {"json": {"amount": amount}}
        path = f"/api/orders/{order['id']}/pay"
        return await self.ask("PATCH", path, headers=headers_for(**headers), **more)

    async def paid(self, order: Json, amount: Any = None, **headers: Any) -> Json:
        """The order whose payment was asked for."""
        answer = await self.pay(order, amount, **headers)
        assert answer.status == 200, answer
        return dict(answer.body)

    async def cancel(self, order: Json, reason: Any = None, **headers: Any) -> Answer:
        """Ask for the order to be cancelled."""
        more = {} if reason is None else {"json": {"reason": reason}}
        path = f"/api/orders/{order['id']}/cancel"
        return await self.ask("POST", path, headers=headers_for(**headers), **more)

    async def check_out(self, order: Json, **headers: Any) -> Answer:
        """Ask to pay at Stripe."""
        path = f"/api/orders/{order['id']}/payments/stripe"
        return await self.ask("POST", path, headers=headers_for(**headers))

    async def checkout(self, order: Json) -> Json:
        """The order's checkout as it stands."""
        answer = await self.ask("GET", f"/api/orders/{order['id']}/payments/stripe")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def ready_checkout(self, order: Json) -> Json:
        """A checkout that was asked for, once Stripe has opened its page."""
        answer = await self.check_out(order)
        assert answer.status == 202, answer
        return await eventually(
            lambda: self.checkout(order), lambda seen: seen["status"] != "REQUESTED"
        )

    async def timeline(self, order: Json) -> list[Json]:
        """The order's events, oldest first."""
        answer = await self.ask("GET", f"/api/orders/{order['id']}/events")
        assert answer.status == 200, answer
        return list(answer.body["data"])

    async def see(self, order: Json) -> Json:
        """The order as it stands."""
        answer = await self.ask("GET", f"/api/orders/{order['id']}")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def wait_until(self, order: Json, status: str) -> Json:
        """The order once it stands at `status`; fails where it ends elsewhere."""
        ends = {status, *FINAL}
        seen = await eventually(lambda: self.see(order), lambda seen: seen["status"] in ends)
        assert seen["status"] == status, seen
        return seen

    async def buys(self, product: Json, quantity: int = 1, **headers: Any) -> Json:
        """A COMPLETED order."""
        order = await self.placed(product, quantity)
        await self.paid(order, **headers)
        return await self.wait_until(order, "COMPLETED")

    async def page(self, path: str = "/api/orders", **query: Any) -> Json:
        """One page of a list."""
        answer = await self.ask("GET", path, params=query)
        assert answer.status == 200, answer
        return dict(answer.body)

    async def walk(self, path: str = "/api/orders", **query: Any) -> list[list[Json]]:
        """All pages of a list, by nextCursor."""
        pages = [await self.page(path, **query)]
        while pages[-1]["hasMore"]:
            pages.append(await self.page(path, **query, cursor=pages[-1]["nextCursor"]))
        assert pages[-1]["nextCursor"] is None
        return [page["data"] for page in pages]

    async def orders_once(self, enough: Callable[[list[Json]], bool]) -> list[Json]:
        """The customer's orders, up to 100, once they are `enough`."""

        async def look() -> list[Json]:
            return list((await self.page(limit=100))["data"])

        return await eventually(look, enough)

    async def see_product(self, product: Json) -> Json:
        """The product as it stands."""
        answer = await self.ask("GET", f"/api/products/{product['id']}")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def available(self, product: Json) -> int:
        """How many pieces of the product may be ordered."""
        return int((await self.see_product(product))["availableQuantity"])


class Admin(Customer):
    """Somebody who may fill the catalogue."""

    async def post_product(self, **fields: Any) -> Answer:
        """Ask for a new product, of a name of its own unless it is given one."""
        usual = {"productName": f"product {uuid4()}", "price": 499, "quantity": 10}
        return await self.ask("POST", "/api/products", json={**usual, **fields})

    async def adds(self, **fields: Any) -> Json:
        """A product in the catalogue."""
        answer = await self.post_product(**fields)
        assert answer.status == 201, answer
        return dict(answer.body)

    async def change(self, product: Json, **fields: Any) -> Answer:
        """Ask for changes of a product."""
        return await self.ask("PATCH", f"/api/products/{product['id']}", json=fields)

    async def changes(self, product: Json, **fields: Any) -> Json:
        """The product with its changes."""
        answer = await self.change(product, **fields)
        assert answer.status == 200, answer
        return dict(answer.body)
