"""The stand-in's state: sessions, payments, charges and refunds, and the events about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from devstack.stripe import objects
from devstack.stripe.errors import ApiError, missing
from devstack.stripe.forms import as_list
from devstack.stripe.objects import Object

SHORTEST, LONGEST = 30 * 60, 24 * 3600
LARGEST = 99_999_999
SMALLEST = {"pln": 200, "gbp": 30}
SMALLEST_ELSEWHERE = 50
"""Minor units: https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts."""


@dataclass
class Whims:
    """How the next payments and refunds differ from the ordinary course."""

    amount: int | None = None
    """The amount that is captured instead of the session's total, in minor units."""
    currency: str | None = None
    delayed: bool = False
    """Whether sessions complete before they are paid; `settle` then decides."""
    refunds: str = "succeed"
    """`succeed`, `pend`, `fail` (after they were accepted) or `refuse`."""


class State:
    """All objects, in memory. `tell` is called with each event."""

    def __init__(self, base_url: str, tell: Callable[[Object], None]) -> None:
        self._base_url = base_url
        self._tell = tell
        self.whims = Whims()
        self.sessions: dict[str, Object] = {}
        self.lines: dict[str, list[Object]] = {}
        self.intents: dict[str, Object] = {}
        self.charges: dict[str, Object] = {}
        self.refunds: dict[str, Object] = {}
        self._intent_data: dict[str, Object] = {}

    def create_session(self, parameters: Object) -> Object:
        """POST /v1/checkout/sessions."""
        _check_session(parameters)
        lines = [_line(item, place) for place, item in enumerate(as_list(parameters["line_items"]))]
        _check_amount(lines)
        session = objects.session(parameters, lines, self._base_url)
        self.sessions[session["id"]] = session
        self.lines[session["id"]] = lines
        self._intent_data[session["id"]] = parameters.get("payment_intent_data") or {}
        return session

    def retrieve_session(self, id: str, parameters: Object) -> Object:
        """GET /v1/checkout/sessions/{id}, with the payment intent itself if it is to be expanded.

        https://docs.stripe.com/api/expanding_objects
        """
        session = self.session(id)
        intent = session["payment_intent"]
        if intent is None or "payment_intent" not in as_list(parameters.get("expand")):
            return session
        return {**session, "payment_intent": self.intents[intent]}

    def session(self, id: str) -> Object:
        """Return a session. Raises ApiError if there is none."""
        if id not in self.sessions:
            raise missing("checkout_session", id)
        return self.sessions[id]

    def expire(self, id: str) -> Object:
        """POST /v1/checkout/sessions/{id}/expire; also called when the session's time is over."""
        session = self.session(id)
        if session["status"] != "open":
            raise ApiError(
                'Only Checkout Sessions with a status in ["open"] can be expired. '
                f"This Checkout Session has a status of `{session['status']}`.",
            )
        session |= {"status": "expired", "url": None}
        self._happened("checkout.session.expired", session)
        return session

    def pay(self, id: str, *, fails: bool = False) -> Object:
        """Complete a session as its customer; delayed and failing payments are not captured."""
        session = self.session(id)
        if session["status"] != "open":
            raise ApiError("This Checkout Session is not open.")
        amount, currency = self.whims.amount, self.whims.currency
        if amount is not None:
            session["amount_total"] = amount
        session["currency"] = currency or session["currency"]
        metadata = self._intent_data[id].get("metadata") or {}
        intent = objects.payment_intent(session["amount_total"], session["currency"], metadata)
        self.intents[intent["id"]] = intent
        session |= {"status": "complete", "url": None, "payment_intent": intent["id"]}
        delayed = self.whims.delayed or fails
        if not delayed:
            self._capture(session)
        self._happened("checkout.session.completed", session)
        if fails:
            self.settle(id, paid=False)
        return session

    def settle(self, id: str, *, paid: bool) -> Object:
        """Let a delayed payment succeed or fail."""
        session = self.session(id)
        if session["status"] != "complete" or session["payment_status"] == "paid":
            raise ApiError("This Checkout Session has no delayed payment.")
        if paid:
            self._capture(session)
        else:
            self.intents[session["payment_intent"]]["status"] = "requires_payment_method"
        name = "succeeded" if paid else "failed"
        self._happened(f"checkout.session.async_payment_{name}", session)
        return session

    def refund(self, parameters: Object) -> Object:
        """POST /v1/refunds; also stands for a refund by a person in Stripe's dashboard.

        Of a payment that is not known, what is asked for first counts as all of it: it was made
        before the stand-in was started, or is told by a webhook that somebody has signed by hand.
        """
        charge = self._charge_of(parameters)
        left = charge["amount"] - charge["amount_refunded"]
        amount = _whole(parameters.get("amount", left), "amount", at_least=1)
        if left == 0:
            raise _refused("Charge has already been refunded.", "charge_already_refunded")
        if amount > left:
            raise ApiError(f"Refund amount ({amount}) is greater than unrefunded amount ({left}).")
        if self.whims.refunds == "refuse":
            raise _refused("Insufficient funds in your Stripe balance.", "balance_insufficient")
        refund = objects.refund(charge, amount, parameters.get("metadata") or {})
        self.refunds[refund["id"]] = refund
        self._count(charge, amount)
        self._happened("refund.created", refund)
        self._happened("charge.refunded", charge)
        if self.whims.refunds != "pend":
            self.settle_refund(refund["id"], self.whims.refunds == "succeed")
        return refund

    def refunds_of(self, query: Mapping[str, str]) -> Object:
        """GET /v1/refunds?payment_intent=…, the latest first."""
        intent = query.get("payment_intent")
        found = [one for one in self.refunds.values() if intent in (None, one["payment_intent"])]
        found = found[::-1]
        if after := query.get("starting_after"):
            found = found[[one["id"] for one in found].index(after) + 1 :]
        limit = int(query.get("limit", 10))
        more = len(found) > limit
        return {"object": "list", "url": "/v1/refunds", "has_more": more, "data": found[:limit]}

    def settle_refund(self, id: str, succeeds: bool) -> Object:
        """Let a pending refund succeed or fail."""
        refund = self.refunds[id]
        refund["status"] = "succeeded" if succeeds else "failed"
        if not succeeds:
            self._count(self.charges[refund["charge"]], -refund["amount"])
        self._happened("refund.updated", refund)
        if not succeeds:
            self._happened("refund.failed", refund)
        return refund

    def _count(self, charge: Object, refunded: int) -> None:
        charge["amount_refunded"] += refunded
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]

    def _charge_of(self, parameters: Object) -> Object:
        intent_id = str(parameters.get("payment_intent") or "")
        if not intent_id:
            raise missing("payment_intent", intent_id)
        if intent_id not in self.intents:
            amount = _whole(parameters.get("amount"), "amount", at_least=1)
            self.intents[intent_id] = objects.payment_intent(amount, "pln", {}) | {"id": intent_id}
            self._capture({"payment_intent": intent_id})
        charge = self.intents[intent_id]["latest_charge"]
        if charge is None:
            raise ApiError("This PaymentIntent does not have a successful charge to refund.")
        return self.charges[charge]

    def _capture(self, session: Object) -> None:
        intent = self.intents[session["payment_intent"]]
        charge = objects.charge(intent)
        self.charges[charge["id"]] = charge
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        intent["latest_charge"] = charge["id"]
        session["payment_status"] = "paid"
        self._happened("payment_intent.succeeded", intent)

    def _happened(self, type: str, found: Object) -> None:
        self._tell(objects.event(type, found))


def _refused(message: str, code: str) -> ApiError:
    return ApiError(message, code=code, began=True)


def _check_session(parameters: Object) -> None:
    for name in ("mode", "line_items", "success_url"):
        if not parameters.get(name):
            raise ApiError(f"Missing required param: {name}.", code="parameter_missing", param=name)
    if parameters["mode"] != "payment":
        raise ApiError("The stand-in knows the mode `payment` alone.", param="mode")
    if expires_at := parameters.get("expires_at"):
        left = _whole(expires_at, "expires_at") - objects.now()
        if not SHORTEST <= left <= LONGEST:
            raise ApiError(
                "The `expires_at` timestamp must be between 30 minutes and 24 hours from "
                "Checkout Session creation.",
                param="expires_at",
            )


def _line(item: Any, place: int) -> Object:
    price = item.get("price_data") or {}
    where = f"line_items[{place}]"
    name = (price.get("product_data") or {}).get("name")
    if not name or not price.get("currency"):
        raise ApiError(
            f"Missing required param: {where}[price_data].", param=f"{where}[price_data]"
        )
    return objects.line_item(
        name,
        _whole(item.get("quantity"), f"{where}[quantity]", at_least=1),
        _whole(price.get("unit_amount"), f"{where}[price_data][unit_amount]"),
        price["currency"],
    )


def _check_amount(lines: list[Object]) -> None:
    total, currency = sum(line["amount_total"] for line in lines), lines[0]["currency"]
    if any(line["currency"] != currency for line in lines):
        raise ApiError("All line items must have the same currency.", param="line_items")
    if total > LARGEST:
        raise ApiError("The total amount is too large.", code="amount_too_large")
    if total < SMALLEST.get(currency, SMALLEST_ELSEWHERE):
        raise ApiError("The total amount due is too small.", code="amount_too_small")


def _whole(value: Any, param: str, at_least: int = 0) -> int:
    text = str(value)
    if not text.isdecimal() or int(text) < at_least:
        raise ApiError(f"Invalid integer: {text}", code="parameter_invalid_integer", param=param)
    return int(text)
