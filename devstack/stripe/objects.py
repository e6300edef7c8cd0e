"""The objects of Stripe's API that the stand-in keeps, in Stripe's shapes."""

import secrets
import string
import time
from typing import Any

Object = dict[str, Any]

API_VERSION = "2026-10-28.endive"
_LETTERS = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """Return a random id in Stripe's form: `pi_3Nd…`."""
    return f"{prefix}_" + "".join(secrets.choice(_LETTERS) for _ in range(length))


def now() -> int:
    """Return the Unix time in seconds."""
    return int(time.time())


def session(parameters: Object, lines: list[Object], base_url: str) -> Object:
    """Create an open Checkout Session."""
    id = new_id("cs_test", 58)
    total = sum(line["amount_total"] for line in lines)
    return {
        "id": id,
        "object": "checkout.session",
        "amount_subtotal": total,
        "amount_total": total,
        "cancel_url": parameters.get("cancel_url"),
        "client_reference_id": parameters.get("client_reference_id"),
        "created": now(),
        "currency": lines[0]["currency"],
        "customer_email": parameters.get("customer_email"),
        "expires_at": int(parameters.get("expires_at") or now() + 24 * 3600),
        "livemode": False,
        "metadata": parameters.get("metadata") or {},
        "mode": "payment",
        "payment_intent": None,
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "status": "open",
        "success_url": parameters["success_url"],
        "url": f"{base_url}/c/pay/{id}",
    }


def line_item(name: str, quantity: int, unit_amount: int, currency: str) -> Object:
    """Create one line of a session."""
    return {
        "id": new_id("li"),
        "object": "item",
        "amount_total": quantity * unit_amount,
        "currency": currency,
        "description": name,
        "price": {"object": "price", "currency": currency, "unit_amount": unit_amount},
        "quantity": quantity,
    }


def payment_intent(amount: int, currency: str, metadata: Object) -> Object:
    """Create a payment intent that is being processed."""
    return {
        "id": new_id("pi"),
        "object": "payment_intent",
        "amount": amount,
        "amount_received": 0,
        "created": now(),
        "currency": currency,
        "latest_charge": None,
        "livemode": False,
        "metadata": metadata,
        "status": "processing",
    }


def charge(intent: Object) -> Object:
    """Create a captured charge for a payment intent."""
    return {
        "id": new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"],
        "amount_refunded": 0,
        "captured": True,
        "created": now(),
        "currency": intent["currency"],
        "livemode": False,
        "metadata": intent["metadata"],
        "paid": True,
        "payment_intent": intent["id"],
        "refunded": False,
        "status": "succeeded",
    }


def refund(charge: Object, amount: int, metadata: Object) -> Object:
    """Create a pending refund."""
    return {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "charge": charge["id"],
        "created": now(),
        "currency": charge["currency"],
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "reason": None,
        "status": "pending",
    }


def event(type: str, found: Object) -> Object:
    """Create a webhook event with a copy of `found` as it is now."""
    return {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": now(),
        "data": {"object": {**found}},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": type,
    }
