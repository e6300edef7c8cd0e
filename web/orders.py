"""/api/orders: place, list, read."""

from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web

from app import app, orders, placing, redis_cache, request_pool, settings
from app.cache import ORDERS
from app.db.rows import IdempotencyKey
from app.errors import Forbidden, NotEnoughStock, Overloaded, ProductNotFound, TotalMismatch
from app.identity.tokens import Identity
from app.logs import request_id
from tables.replays import recall
from web.cursors import NEXT_PAGE, page_of
from web.http.endpoint import Answer, Link, Who, endpoint
from web.http.problems import View
from web.http.requests import is_known
from web.http.responses import etag, json_response
from web.order_admission import admit_and_place, shed
from web.shapes.answers import Order, OrderPage, PlacedOrder
from web.shapes.bodies import NewOrder
from web.shapes.query_strings import AllOrdersQuery, OrdersQuery

WITH_ORDER = {"order_id": "$response.body#/id"}
NEXT_STEPS = (
    Link("getOrder", WITH_ORDER),
    Link("payOrder", WITH_ORDER),
    Link("requestCheckout", WITH_ORDER),
    Link("cancelOrder", WITH_ORDER),
    Link("listOrderEvents", WITH_ORDER),
    Link("explainOrder", WITH_ORDER),
)


@app.page("/api/orders")
class OrdersView(View):
    """The customer's orders."""

    @endpoint(
        "placeOrder",
        Answer(201, "The order", PlacedOrder, ("Location", "ETag"), NEXT_STEPS),
        Answer(200, "The answer to the first request", PlacedOrder, ("Location", "ETag")),
        who=Who.USER,
        body=NewOrder,
        sheds=shed,
        idempotent=True,
        own_problems=(ProductNotFound, NotEnoughStock, TotalMismatch, Overloaded),
    )
    async def post(
        self, request: web.Request, user: Identity, body: NewOrder, key: IdempotencyKey | None
    ) -> web.Response:
        """Place an order; a repeated Idempotency-Key gets the first answer again."""
        order = recall(key) if key else None
        is_duplicate = order is not None
        if order is None:
            command = placing.PlaceOrder(
                user, body.basket(), key, request_id.get(), settings.order_ttl_seconds
            )
            order, is_duplicate = await admit_and_place(command)
        headers = {"Location": f"/api/orders/{order['id']}", "ETag": etag(order)}
        answer = {**order, "isDuplicate": is_duplicate}
        return json_response(answer, 200 if is_duplicate else 201, headers)

    @endpoint(
        "listOrders",
        Answer(
            200,
            "A page",
            OrderPage,
            links=(
                Link("listOrders", NEXT_PAGE),
                Link("getOrder", {"order_id": "$response.body#/data/0/id"}),
            ),
        ),
        who=Who.USER,
        query=OrdersQuery,
    )
    async def get(self, request: web.Request, user: Identity, query: OrdersQuery) -> web.Response:
        """List the customer's orders, newest first."""
        filters = [str(user.id), query.status]
        find = partial(orders.page, request_pool, user.id, query.status)
        return json_response(await page_of(query.cursor, query.limit, filters, find))


@app.page("/api/orders/admin")
class AllOrdersView(View):
    """The orders of all customers."""

    @endpoint(
        "listAllOrders",
        Answer(200, "A page", OrderPage, links=(Link("listAllOrders", NEXT_PAGE),)),
        who=Who.ADMIN,
        query=AllOrdersQuery,
    )
    async def get(
        self, request: web.Request, user: Identity, query: AllOrdersQuery
    ) -> web.Response:
        """List all orders, or those of one user, newest first."""
        whose, status = query.user_id, query.status
        filters = ["all", str(whose), status]
        find = partial(orders.page, request_pool, whose, status)
        return json_response(await page_of(query.cursor, query.limit, filters, find))


@app.page("/api/orders/{order_id}")
class OrderView(View):
    """One order."""

    @endpoint(
        "getOrder",
        Answer(200, "The order", Order, ("ETag",)),
        Answer(304, "The client has it", headers=("ETag",)),
        who=Who.USER,
        headers={"If-None-Match": "The ETag of the order that the client has (RFC 9110)"},
        own_problems=(Forbidden,),
    )
    async def get(self, request: web.Request, user: Identity, order_id: UUID) -> web.Response:
        """Return the order, to its owner or an administrator."""
        order = await visible_order(user, order_id)
        headers = {"ETag": etag(order)}
        if is_known(request, headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return json_response(order, headers=headers)


async def visible_order(user: Identity, order_id: UUID) -> dict[str, Any]:
    """Return the order, from the cache or PostgreSQL, if `user` may see it.

    Raises OrderNotFound, Forbidden.
    """
    order = await redis_cache.get(ORDERS, order_id, lambda id: orders.get(request_pool, id))
    user.require_owner_or_admin(UUID(order["userId"]))
    return order
