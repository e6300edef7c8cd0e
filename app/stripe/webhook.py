"""Verify and read Stripe's webhook events. Pure functions.

Signatures: https://docs.stripe.com/webhooks#verify-manually.
Events: https://docs.stripe.com/api/events/types.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

from stripe import SignatureVerificationError, WebhookSignature

from app.errors import BadSignature, InvalidInput
from app.money.amounts import MAX_MINOR
from app.money.ledger import PAYMENT_FAILED, Fact
from app.stripe.api import told_id

TOLERANCE_SECONDS = 300
NOT_NOW = f"The time of the Stripe-Signature is more than {TOLERANCE_SECONDS} seconds from ours"


def verify(payload: bytes, header: str | None, secrets: Sequence[str], now: datetime) -> None:
    """Raise BadSignature unless one of `secrets` signed `payload` within 300 seconds of `now`."""
    if not any(_is_signed(payload, header, secret) for secret in secrets):
        raise BadSignature
    if abs(now.timestamp() - _signed_at(header or "")) > TOLERANCE_SECONDS:
        raise BadSignature(NOT_NOW)


def _is_signed(payload: bytes, header: str | None, secret: str) -> bool:
    try:
        WebhookSignature.verify_header(payload, header, secret)
        return True
    except (SignatureVerificationError, ValueError, TypeError):
        # ValueError and TypeError: bytes that are not UTF-8, a signature that is not ASCII.
        return False


def _signed_at(header: str) -> int:
    """Return the first `t`, which is the one that the library has verified."""
    parts = (part.split("=") for part in header.split(","))
    return next(int(part[1]) for part in parts if part[0] == "t")


@dataclass(frozen=True, slots=True)
class Report:
    """What one Stripe event reports; `fact` is None if it reports nothing about money.

    The payment is identified by our attempt's id, which Stripe has before we know the session's, by
    the session, or by the payment intent. Only a session names an attempt: the metadata of any
    other object may be copied from one that is paid by another intent.
    """

    event_id: str
    type: str
    created: datetime | None = None
    """None if the event has none; or if it is not about money, and cannot be read as a whole."""
    order_id: UUID | None = None
    attempt_id: UUID | None = None
    session_id: str | None = None
    payment_intent: str | None = None
    fact: Fact | None = None
    is_test: bool = False
    """Whether no real money moved, although the service takes real money; then it has no fact."""


UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)
"""What reading something else than an event of Stripe raises."""


def read(payload: bytes, *, is_live: bool = False) -> Report:
    """Read the report in a verified payload; `is_live` says that the service takes real money.

    Raises InvalidInput if it is not an event.
    """
    try:
        event = json.loads(payload, parse_constant=_refuse)
        bare = Report(_text(event["id"]), _text(event["type"]))
        try:
            return _whole_report(event, is_live)
        except UNREADABLE:
            if bare.type in FACTS:
                raise
            return bare
    except UNREADABLE:
        raise InvalidInput.of("#", "the body is not an event of Stripe") from None


def _whole_report(event: Mapping[str, Any], is_live: bool) -> Report:
    found = event["data"]["object"]
    is_session = event["type"].startswith("checkout.session.")
    speaks = FACTS.get(event["type"])
    is_test = is_live and event.get("livemode") is False
    return Report(
        event_id=_text(event["id"]),
        type=_text(event["type"]),
        created=_moment(event.get("created")),
        order_id=_order_id(found),
        attempt_id=told_id(_metadata(found).get("paymentId")) if is_session else None,
        session_id=_text(found["id"]) if is_session else None,
        payment_intent=_id(found.get("payment_intent")),
        # Of an account that is connected to ours (Stripe Connect): its money is not here.
        fact=speaks(found) if speaks and not (event.get("account") or is_test) else None,
        is_test=is_test,
    )


def _refuse(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and PostgreSQL does not store as JSON."""
    raise ValueError(f"{constant} is not JSON")


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise ValueError("not an identifier")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("not a whole number")
    return value


def _moment(told: object) -> datetime | None:
    return None if told is None else datetime.fromtimestamp(_whole(told), UTC)


def _amount(value: object) -> int:
    """Return the value as minor units."""
    amount = _whole(value)
    if not 0 <= amount <= MAX_MINOR:
        raise ValueError("not an amount")
    return amount


def _id(value: Any) -> str | None:
    """Return an id, also from an expanded object."""
    id = value.get("id") if isinstance(value, dict) else value
    return None if id is None else _text(id)


def _metadata(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return found.get("metadata") or {}


def _order_id(found: Mapping[str, Any]) -> UUID | None:
    """Return the order that the object names."""
    return told_id(_metadata(found).get("orderId")) or told_id(found.get("client_reference_id"))


def _paid(session: Mapping[str, Any]) -> Fact | None:
    """Return the capture; None if a delayed payment method has completed the session unpaid."""
    if session["payment_status"] != "paid" or not _is_single(session):
        return None
    return Fact.captured(_amount(session["amount_total"]), _text(session["currency"]).upper())


def _not_paid(session: Mapping[str, Any]) -> Fact | None:
    return Fact.failed(PAYMENT_FAILED) if _is_single(session) else None


def _expired(session: Mapping[str, Any]) -> Fact | None:
    return Fact.expired() if _is_single(session) else None


def _is_single(session: Mapping[str, Any]) -> bool:
    """Return whether it is for a single payment; not so a subscription with an order's id."""
    return bool(session.get("mode", "payment") == "payment")


def _refund(found: Mapping[str, Any]) -> Fact:
    told = told_id(_metadata(found).get("refundId"))
    ours = str(told) if told else None
    status = _text(found["status"] or "pending")
    return Fact.refund(_text(found["id"]), _amount(found["amount"]), status, ours)


def _charge(charge: Mapping[str, Any]) -> Fact:
    return Fact.refunded_in_all(_amount(charge["amount_refunded"]))


FACTS: Mapping[str, Callable[[Mapping[str, Any]], Fact | None]] = {
    "checkout.session.completed": _paid,
    "checkout.session.async_payment_succeeded": _paid,
    "checkout.session.async_payment_failed": _not_paid,
    "checkout.session.expired": _expired,
    "charge.refunded": _charge,
    "charge.refund.updated": _refund,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
}
"""How to read the fact of each event type; events of other types are stored without one."""
