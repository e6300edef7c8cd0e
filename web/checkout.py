"""/api/orders/{id}/payments/stripe: pay an order on a page at Stripe."""

from uuid import UUID

from aiohttp import web

from app import app, checkout, request_pool
from app.db.rows import IdempotencyKey
from app.errors import Forbidden, NothingToPay, NotPayable, PaymentInProgress, TooManyAttempts
from app.identity.tokens import Identity
from app.logs import request_id
from web.http.endpoint import Answer, Link, Who, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.shapes.answers import Checkout, CheckoutAsked

POLL = (Link("getCheckout", {"order_id": "$response.body#/orderId"}),)


@app.page("/api/orders/{order_id}/payments/stripe")
class CheckoutView(View):
    """An order's checkout at Stripe."""

    @endpoint(
        "requestCheckout",
        Answer(202, "The checkout that is being opened, or is open", CheckoutAsked, (), POLL),
        who=Who.USER,
        idempotent=True,
        own_problems=(Forbidden, NotPayable, NothingToPay, PaymentInProgress, TooManyAttempts),
    )
    async def post(
        self, request: web.Request, user: Identity, order_id: UUID, key: IdempotencyKey | None
    ) -> web.Response:
        """Request a page at Stripe on which to pay the order; it is opened asynchronously."""
        command = checkout.StartCheckout(user, order_id, key, request_id.get())
        answer = await checkout.request_checkout(request_pool, command)
        return json_response(answer, 202)

    @endpoint(
        "getCheckout",
        Answer(200, "The latest checkout", Checkout),
        who=Who.USER,
        own_problems=(Forbidden,),
    )
    async def get(self, request: web.Request, user: Identity, order_id: UUID) -> web.Response:
        """Return the status of the order's latest checkout, and the page on which to pay."""
        return json_response(await checkout.status(request_pool, user, order_id))
