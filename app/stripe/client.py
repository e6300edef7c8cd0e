"""The Stripe API client: the calls of this service, through Stripe's own library.

Calls are made outside of any transaction and are not retried here; the caller decides when to
repeat one. Creations carry an idempotency key, so Stripe answers a repetition as it did the first
request (https://docs.stripe.com/api/idempotent_requests).
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import stripe

from app.stripe.api import Checkout, Line, Refund, Session, told_id
from app.stripe.errors import ProviderAway, ProviderFailed, ProviderRefused
from app.stripe.failures import answer_of

if TYPE_CHECKING:
    from stripe.params import RefundCreateParams
    from stripe.params.checkout import (
        SessionCreateParams,
        SessionCreateParamsLineItem,
        SessionRetrieveParams,
    )

TIMEOUT_SECONDS = 10.0
"""The timeout of one request, from connecting to the last byte."""

NOT_REFUNDED = "Stripe could not make the refund"

log = logging.getLogger(__name__)

# The library would send this machine's platform and request metrics with every call.
stripe.enable_telemetry = False


class StripeClient:
    """Stripe at `api_base`; its pages return customers to `success_url` or `cancel_url`."""

    def __init__(
        self,
        secret_key: str,
        api_base: str,
        success_url: str,
        cancel_url: str,
        patience: float = TIMEOUT_SECONDS,
    ) -> None:
        timeout = aiohttp.ClientTimeout(total=patience)
        self._http = stripe.AIOHTTPClient(timeout=timeout)
        self._client = stripe.StripeClient(
            secret_key,
            http_client=self._http,
            base_addresses={"api": api_base.rstrip("/")},
            # `calls.py` retries: the library does not retry a 429, and a restart loses its retries.
            max_network_retries=0,
        )
        self.return_urls = success_url, cancel_url

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def create_session(self, checkout: Checkout) -> Session:
        """Create a Checkout Session. Raises ProviderAway, ProviderRefused."""
        asked, key = self._session_params(checkout), str(checkout.attempt_id)
        sessions = self._client.v1.checkout.sessions
        call = sessions.create_async(asked, {"idempotency_key": key})
        return _session(await answer_of(call))

    async def expire_session(self, session_id: str) -> Session:
        """Expire the session, so that nobody can pay it, and return it as it is then.

        It is expired, or complete if the customer was faster; then it has its intent's status, if
        the key may read it. Raises ProviderAway, ProviderRefused.
        """
        sessions = self._client.v1.checkout.sessions
        try:
            return _session(await answer_of(sessions.expire_async(session_id)))
        except ProviderRefused:
            # Stripe expires only open sessions; the caller decides by what this one is instead.
            asked: SessionRetrieveParams = {"expand": ["payment_intent"]}
            try:
                return _session(await answer_of(sessions.retrieve_async(session_id, asked)))
            except ProviderRefused as refused:
                # As by a restricted key; only of a failed delayed payment an intent is needed.
                found = await self.find_session(session_id)
                log.warning("Stripe does not show payment intents to this key: %s", refused)
                return found

    async def find_session(self, session_id: str) -> Session:
        """Return a session as it is. Raises ProviderAway, ProviderRefused."""
        sessions = self._client.v1.checkout.sessions
        return _session(await answer_of(sessions.retrieve_async(session_id)))

    async def refund(
        self, refund_id: UUID, order_id: UUID, payment_intent: str, amount_minor: int
    ) -> Refund:
        """Refund `amount_minor` of a payment; `refund_id` is the idempotency key.

        Raises ProviderAway, or ProviderRefused with the payment's refunds, if Stripe shows them.
        """
        asked: RefundCreateParams = {
            "payment_intent": payment_intent,
            "amount": amount_minor,
            "metadata": {"orderId": str(order_id), "refundId": str(refund_id)},
        }
        refunds = self._client.v1.refunds
        try:
            made = await answer_of(refunds.create_async(asked, {"idempotency_key": str(refund_id)}))
            return _refund(made, amount_minor)
        except ProviderFailed:
            found = await self.find_refunds(payment_intent)
            failure = ProviderFailed(NOT_REFUNDED, f"there is no refund {refund_id}", found)
            return _find(found, refund_id, failure)
        except ProviderRefused as refused:
            # It may have been made before, and Stripe have forgotten its key, after a day.
            with suppress(ProviderRefused):
                refused.refunds = await answer_of(self._refunds_of(payment_intent))
            return _find(refused.refunds, refund_id, refused)

    async def find_refunds(self, payment_intent: str) -> list[Refund]:
        """Return all refunds of a payment, whoever made them. Raises ProviderAway."""
        try:
            return await answer_of(self._refunds_of(payment_intent))
        except ProviderRefused as refused:
            # Only the look was refused: refunds may have been made.
            raise ProviderAway(str(refused)) from refused

    async def _refunds_of(self, payment_intent: str) -> list[Refund]:
        refunds = self._client.v1.refunds
        page = await refunds.list_async({"payment_intent": payment_intent, "limit": 100})
        found = [refund async for refund in page.auto_paging_iter()]
        return [_refund(refund) for refund in found if _is_of(refund, payment_intent)]

    async def find_refund(self, id: str) -> Refund:
        """Return a refund's current state. Raises ProviderAway, ProviderRefused."""
        return _refund(await answer_of(self._client.v1.refunds.retrieve_async(id)))

    def _session_params(self, checkout: Checkout) -> "SessionCreateParams":
        order_id = str(checkout.order_id)
        metadata = {"orderId": order_id, "paymentId": str(checkout.attempt_id)}
        return {
            "mode": "payment",
            "client_reference_id": order_id,
            "metadata": metadata,
            "payment_intent_data": {"metadata": metadata},
            "line_items": [_line_item(line, checkout.currency) for line in checkout.lines],
            "expires_at": int(checkout.expires_at.timestamp()),
            "success_url": checkout.success_url,
            "cancel_url": checkout.cancel_url,
        }


def _line_item(line: Line, currency: str) -> "SessionCreateParamsLineItem":
    return {
        "quantity": line.quantity,
        "price_data": {
            "currency": currency.lower(),
            "unit_amount": line.unit_minor,
            "product_data": {"name": line.name},
        },
    }


def _refund(refund: stripe.Refund, asked_minor: int | None = None) -> Refund:
    told = {"amount": asked_minor} | refund.to_dict()
    _require(told, "id", "amount")
    ours = told_id((told.get("metadata") or {}).get("refundId"))
    status = told.get("status") or "pending"
    return Refund(told["id"], status, told["amount"], str(ours) if ours else None)


def _is_of(refund: stripe.Refund, payment_intent: str) -> bool:
    """Return whether a listed refund is of the intent that was asked for, or names none."""
    return bool(refund.to_dict().get("payment_intent", payment_intent) == payment_intent)


def _find(made: Sequence[Refund], refund_id: UUID, otherwise: ProviderRefused) -> Refund:
    """Return the refund with our id. Raises `otherwise` if there is none."""
    for refund in made:
        if refund.refund_id == str(refund_id):
            return refund
    raise otherwise


def _session(session: stripe.checkout.Session) -> Session:
    told = session.to_dict()
    _require(told, "id")
    intent = told.get("payment_intent")
    expanded = intent if isinstance(intent, dict) else {"id": intent}
    return Session(
        id=told["id"],
        url=told.get("url"),
        status=told.get("status") or "open",
        payment_intent=expanded["id"],
        intent_status=expanded.get("status"),
        is_paid=told.get("payment_status") == "paid",
        amount_minor=told.get("amount_total") or 0,
        currency=(told.get("currency") or "").upper(),
    )


def _require(told: Mapping[str, Any], *names: str) -> None:
    """Raise ProviderAway if an answer lacks what is needed of it, so that Stripe is asked again."""
    if lacking := [name for name in names if told.get(name) is None]:
        raise ProviderAway(f"An answer of Stripe lacks {' and '.join(lacking)}")
