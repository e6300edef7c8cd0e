"""/api/orders/{id}/pay and /cancel."""

from functools import partial
from time import time
from uuid import UUID

from aiohttp import web

from app import admission, app, orders, payments, request_batch_pool, request_pool, settings
from app.db.batching import Batcher
from app.db.rows import IdempotencyKey
from app.errors import (
    Forbidden,
    InvalidInput,
    NotCancellable,
    NotPayable,
    PayAtStripe,
    PaymentInProgress,
)
from app.identity.tokens import Identity
from app.logs import request_id
from web.http.endpoint import Answer, Who, endpoint
from web.http.problems import View
from web.http.responses import etag, json_response
from web.shapes.answers import Order
from web.shapes.bodies import Cancel, Pay
from web.shapes.query_strings import PayQuery


def _note_wait(seconds: float) -> None:
    """Count the wait of a request to pay as part of its order's way."""
    admission.note("requests to pay", time() - seconds)


_payments = Batcher(
    partial(payments.request_payments_together, request_batch_pool),
    partial(payments.request_payment, request_pool),
    _note_wait,
)


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
        own_problems=(Forbidden, NotPayable, PayAtStripe, PaymentInProgress),
    )
    async def patch(
        self,
        request: web.Request,
        user: Identity,
        order_id: UUID,
        query: PayQuery,
        body: Pay,
        versions: frozenset[int] | None,
        key: IdempotencyKey | None,
    ) -> web.Response:
        """Request the payment, which is made asynchronously; without an amount, the exact total."""
        amount = _amount(query, body)
        command = payments.PayOrder(
            user, order_id, amount, versions, key, request_id.get(), settings.pays_internally
        )
        order = await _payments.do(command)
        return json_response(order, headers={"ETag": etag(order)})


def _amount(query: PayQuery, body: Pay) -> int | None:
    """Return the minor units to pay, from the query or the body, which must not disagree."""
    if None not in (query.amount, body.amount) and query.amount != body.amount:
        raise InvalidInput.of("#/amount", "differs between the query and the body")
    return query.amount if body.amount is None else body.amount


@app.page("/api/orders/{order_id}/cancel")
class CancelView(View):
    """Cancellation of one order."""

    @endpoint(
        "cancelOrder",
        Answer(200, "The order, CANCELLED", Order, ("ETag",)),
        who=Who.USER,
        body=Cancel,
        body_required=False,
        idempotent=True,
        conditional=True,
        own_problems=(Forbidden, NotCancellable),
    )
    async def post(
        self,
        request: web.Request,
        user: Identity,
        order_id: UUID,
        body: Cancel,
        versions: frozenset[int] | None,
        key: IdempotencyKey | None,
    ) -> web.Response:
        """Cancel the order at once; captured money is refunded and reserved stock released."""
        command = orders.CancelOrder(user, order_id, body.reason, versions, key, request_id.get())
        order = await orders.cancel_on_request(request_pool, command)
        return json_response(order, headers={"ETag": etag(order)})
