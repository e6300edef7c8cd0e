"""Stripe's API as this service uses it, and Stripe without a key."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, Protocol
from uuid import UUID

from app.stripe.errors import ProviderAway, ProviderRefused

NOT_CONFIGURED = "Stripe is not configured"
NO_KEY = "STRIPE_SECRET_KEY is not set"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an order; `unit_minor` is the price of one piece in minor units."""

    name: str
    quantity: int
    unit_minor: int


@dataclass(frozen=True, slots=True)
class Checkout:
    """A request for a Checkout Session: the lines, the expiry, and the URLs to return to.

    `attempt_id` is the idempotency key.
    """

    attempt_id: UUID
    order_id: UUID
    lines: Sequence[Line]
    currency: str
    expires_at: datetime
    success_url: str
    cancel_url: str


@dataclass(frozen=True, slots=True)
class Session:
    """A Checkout Session: `status` is open, complete or expired; `url` is set while it is open.

    A complete one is paid at once or days later, depending on the payment method; until then
    `intent_status` says whether it may still be paid. It is None if Stripe has not shown it.
    """

    id: str
    url: str | None
    status: str
    payment_intent: str | None
    intent_status: str | None = None
    is_paid: bool = False
    amount_minor: int = 0
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund: `status` is pending, requires_action, succeeded, failed or canceled."""

    id: str
    status: str
    amount_minor: int
    refund_id: str | None = None
    """Our id of it; None if it was not requested here."""


def told_id(told: object) -> UUID | None:
    """Return the id that Stripe gives; None for anything else, since others write metadata too."""
    try:
        return UUID(told) if isinstance(told, str) else None
    except ValueError:
        return None


class StripeApi(Protocol):
    """What Stripe is asked for. Each call raises ProviderAway or ProviderRefused."""

    @property
    def return_urls(self) -> tuple[str, str]:
        """The URLs for customers who have paid, and for those who leave without paying."""

    async def create_session(self, checkout: Checkout) -> Session:
        """Create a Checkout Session, with a page on which the customer pays."""

    async def expire_session(self, session_id: str) -> Session:
        """Expire a session, so that nobody can pay it; return it as it is then."""

    async def find_session(self, session_id: str) -> Session:
        """Return a session as it is."""

    async def refund(
        self, refund_id: UUID, order_id: UUID, payment_intent: str, amount_minor: int
    ) -> Refund:
        """Refund an amount (minor units) of a payment. A refusal has the payment's refunds."""

    async def find_refunds(self, payment_intent: str) -> list[Refund]:
        """Return all refunds of a payment, whoever made them. Raises only ProviderAway."""

    async def find_refund(self, id: str) -> Refund:
        """Return a refund's current state."""


class UnconfiguredStripe:
    """Stripe when no key is configured: checkouts are refused, other calls wait for a key."""

    return_urls = "", ""

    async def close(self) -> None:
        """Do nothing."""

    async def create_session(self, checkout: Checkout) -> Session:
        """Raise ProviderRefused."""
        raise ProviderRefused(NOT_CONFIGURED, NO_KEY)

    async def _wait(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ProviderAway."""
        raise ProviderAway(NO_KEY)

    expire_session = find_session = refund = find_refunds = find_refund = _wait
