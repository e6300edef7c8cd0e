"""/api/orders: place, list, read, pay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from aiohttp import web

from app import app, cache, database, orders, payments
from app.cache import ORDERS
from app.errors import (
    Forbidden,
    InvalidInput,
    NotEnoughStock,
    NotPayable,
    Overloaded,
    PaymentInProgress,
    ProductNotFound,
    TotalMismatch,
)
from app.idempotency import Key
from app.logs import request_id
from app.tokens import Identity
from tables.replays import recall
from web.answers import Order, OrderPage, PlacedOrder
from web.bodies import NewOrder, Pay
from web.endpoint import Answer, Link, Who, endpoint
from web.problems import View
from web.queries import OrdersQuery, PayQuery
from web.requests import bad_cursor, etag, from_cursor, json_response, page

MOST_AT_ONCE = 200
"""Creations under way in this worker; past that, waiting would only make all of them slower."""
_under_way = asyncio.Semaphore(MOST_AT_ONCE)

WITH_ORDER = {"order_id": "$response.body#/id"}
NEXT_STEPS = tuple(Link(name, WITH_ORDER) for name in ("getOrder", "payOrder"))


@asynccontextmanager
async def _placing() -> AsyncIterator[None]:
    """Count a creation. Raises Overloaded instead of waiting."""
    if _under_way.locked():
        raise Overloaded
    async with _under_way:
        yield


@app.page("/api/orders")
class OrdersView(View):
    """The customer's orders."""

    @endpoint(
        "placeOrder",
        Answer(201, "The order", PlacedOrder, ("Location", "ETag"), NEXT_STEPS),
        Answer(200, "The answer to the first request", PlacedOrder, ("Location", "ETag")),
        who=Who.USER,
        body=NewOrder,
        idempotent=True,
        own_problems=(ProductNotFound, NotEnoughStock, TotalMismatch, Overloaded),
    )
    async def post(
        self, request: web.Request, user: Identity, body: NewOrder, key: Key | None
    ) -> web.Response:
        """Place an order; a replay of its Idempotency-Key gets the first answer again."""
        order, is_duplicate = recall(key) if key else None, True
        if order is None:
            async with _placing():
                order, is_duplicate = await orders.place(
                    database, user, body.basket(), key, request_id.get()
                )
        headers = {"Location": f"/api/orders/{order['id']}", "ETag": etag(order)}
        answer = {**order, "isDuplicate": is_duplicate}
        return json_response(answer, 200 if is_duplicate else 201, headers)

    @endpoint(
        "listOrders",
        Answer(
            200,
            "A page",
            OrderPage,
            links=(Link("listOrders", {"cursor": "$response.body#/nextCursor"}),),
        ),
        who=Who.USER,
        query=OrdersQuery,
    )
    async def get(self, request: web.Request, user: Identity, query: OrdersQuery) -> web.Response:
        """A page of the customer's orders, newest first."""
        filters = [str(user.id), query.status]
        place = from_cursor(query.cursor, filters)
        with bad_cursor():
            entries = await orders.page(database, user.id, query.status, place, query.limit + 1)
        return json_response(page(entries, query.limit, filters))


@app.page("/api/orders/{order_id}")
class OrderView(View):
    """One order."""

    @endpoint(
        "getOrder",
        Answer(200, "The order", Order, ("ETag",)),
        who=Who.USER,
        own_problems=(Forbidden,),
    )
    async def get(self, request: web.Request, user: Identity, order_id: UUID) -> web.Response:
        """The order, for its owner or an administrator."""
        order = await cache.get(ORDERS, order_id, lambda id: orders.get(database, id))
        if order["userId"] != str(user.id) and not user.is_admin:
            raise Forbidden("You are not allowed to access this order")
        return json_response(order, headers={"ETag": etag(order)})


@app.page("/api/orders/{order_id}/pay")
class PayView(View):
    """Payment of one order."""

    @endpoint(
        "payOrder",
        Answer(200, "The order, still CREATED", Order, ("ETag",)),
        who=Who.USER,
        query=PayQuery,
        body=Pay,
        body_required=False,
        idempotent=True,
        conditional=True,
        own_problems=(Forbidden, NotPayable, PaymentInProgress),
    )
    async def patch(
        self,
        request: web.Request,
        user: Identity,
        order_id: UUID,
        query: PayQuery,
        body: Pay,
        versions: frozenset[int] | None,
        key: Key | None,
    ) -> web.Response:
        """Ask for the payment, which runs in the pipeline; no amount means the exact total."""
        order = await payments.request_payment(
            database, user, order_id, _amount(query, body), versions, key, request_id.get()
        )
        return json_response(order, headers={"ETag": etag(order)})


def _amount(query: PayQuery, body: Pay) -> int | None:
    """Minor units to pay, from the query or the body, which may not disagree."""
    if None not in (query.amount, body.amount) and query.amount != body.amount:
        raise InvalidInput.of("#/amount", "differs between the query and the body")
    return query.amount if body.amount is None else body.amount
