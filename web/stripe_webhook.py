"""/api/stripe/webhook: Stripe's webhook events."""

import logging

from aiohttp import web

from app import app, request_pool, settings
from app.errors import BadSignature, UnsupportedMediaType
from app.logs import ONCE, request_id
from app.metrics import WEBHOOKS
from app.stripe import events, webhook
from app.times import now
from web.http.body_reading import content_encoding, received_body
from web.http.endpoint import Answer, endpoint
from web.http.problems import View
from web.http.responses import json_response
from web.shapes.answers import Taken

log = logging.getLogger(__name__)

MAX_BODY = 256 * 1024
"""The largest event, in bytes. Stripe states no limit; metadata alone may take 27 KB."""


@app.page("/api/stripe/webhook")
class StripeWebhookView(View):
    """The webhook endpoint for Stripe."""

    @endpoint(
        "takeStripeEvent",
        Answer(200, "The event was accepted, by this request or an earlier one", Taken),
        query=None,
        raw_body="An event of Stripe, signed: https://docs.stripe.com/api/events/object",
        headers={"Stripe-Signature": "https://docs.stripe.com/webhooks#verify-manually"},
        own_problems=(BadSignature,),
    )
    async def post(self, request: web.Request) -> web.Response:
        """Accept a Stripe event; a duplicate changes nothing."""
        # Stripe signs the bytes that it sends, and does not compress them.
        body = await received_body(request.clone(client_max_size=MAX_BODY))
        signature = request.headers.get("Stripe-Signature")
        try:
            webhook.verify(body, signature, settings.stripe_webhook_secrets, now())
        except BadSignature as refused:
            WEBHOOKS.labels("refused").inc()
            log.warning("A webhook is refused: %s", refused, extra=ONCE)
            raise
        if content_encoding(request) != "identity":
            raise UnsupportedMediaType("The body must be as Stripe has signed it, not compressed")
        report = webhook.read(body, is_live=settings.stripe_is_live)
        if report.is_test:
            log.warning("Event %s of Stripe's test mode changes nothing", report.event_id)
        is_new = await events.record(request_pool, report, body, request_id.get())
        WEBHOOKS.labels("taken" if is_new else "known").inc()
        return json_response({"received": True})
