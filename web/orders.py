"""/api/orders: place, read, pay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from app import app, cache, database, orders, payments
from app.cache import ORDERS
from app.errors import Forbidden, InvalidInput, OrderNotFound, Overloaded
from app.lifecycle import Status
from app.logs import request_id
from tables.replays import recall
from web.bodies import NewOrder, Pay, parse, raw, read, validate
from web.problems import View
from web.requests import (
    authenticate,
    bad_cursor,
    etag,
    from_cursor,
    idempotency_key,
    json_response,
    page,
    page_limit,
    path_id,
    query_amount,
    required_versions,
)

MOST_AT_ONCE = 200
"""Creations under way in this worker; past that, waiting would only make all of them slower."""
_under_way = asyncio.Semaphore(MOST_AT_ONCE)


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

    async def post(self, request: web.Request) -> web.Response:
        """Place an order; a replay of its Idempotency-Key gets the first answer again."""
        user = authenticate(request)
        body = await read(request, NewOrder)
        key = await idempotency_key(request, user)
        order, is_duplicate = recall(key) if key else None, True
        if order is None:
            async with _placing():
                order, is_duplicate = await orders.place(
                    database, user, body.basket(), key, request_id.get()
                )
        headers = {"Location": f"/api/orders/{order['id']}", "ETag": etag(order)}
        answer = {**order, "isDuplicate": is_duplicate}
        return json_response(answer, 200 if is_duplicate else 201, headers)

    async def get(self, request: web.Request) -> web.Response:
        """A page of the customer's orders, newest first."""
        user = authenticate(request)
        limit, status = page_limit(request), _status(request)
        filters = [str(user.id), status]
        place = from_cursor(request, filters)
        with bad_cursor():
            entries = await orders.page(database, user.id, status, place, limit + 1)
        return json_response(page(entries, limit, filters))


@app.page("/api/orders/{order_id}")
class OrderView(View):
    """One order."""

    async def get(self, request: web.Request, order_id: str) -> web.Response:
        """The order, for its owner or an administrator."""
        user = authenticate(request)
        id = path_id(order_id, OrderNotFound)
        order = await cache.get(ORDERS, id, lambda id: orders.get(database, id))
        if order["userId"] != str(user.id) and not user.is_admin:
            raise Forbidden("You are not allowed to access this order")
        return json_response(order, headers={"ETag": etag(order)})


@app.page("/api/orders/{order_id}/pay")
class PayView(View):
    """Payment of one order."""

    async def patch(self, request: web.Request, order_id: str) -> web.Response:
        """Ask for the payment; it runs in the pipeline."""
        user = authenticate(request)
        order = await payments.request_payment(
            database,
            user,
            path_id(order_id, OrderNotFound),
            await _amount(request),
            required_versions(request),
            await idempotency_key(request, user),
            request_id.get(),
        )
        return json_response(order, headers={"ETag": etag(order)})


def _status(request: web.Request) -> Status | None:
    text = request.query.get("status")
    try:
        return None if text is None else Status(text)
    except ValueError:
        raise InvalidInput.of("#/status", f"must be one of {', '.join(Status)}") from None


async def _amount(request: web.Request) -> int | None:
    """Minor units to pay, from the query or the body, which may not disagree."""
    in_query = query_amount(request)
    body = await raw(request)
    if not body:
        return in_query
    in_body = validate(Pay, parse(body, request.content_type)).amount
    if None not in (in_query, in_body) and in_query != in_body:
        raise InvalidInput.of("#/amount", "differs between the query and the body")
    return in_query if in_body is None else in_body
