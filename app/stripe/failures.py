"""What the errors of Stripe's library mean for a call: Stripe is away, refuses, or has failed."""

from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
import stripe

from app.stripe.api import NOT_CONFIGURED
from app.stripe.errors import ProviderAway, ProviderFailed, ProviderRefused

NOT_ACCEPTED = "Stripe does not accept this payment"
NOT_IN_TIME = "The checkout could not be opened in time; ask for another"
FAILED = "Stripe could not open the checkout; ask for another"
REASONS = {
    "amount_too_small": "The amount is too small for Stripe",
    "amount_too_large": "The amount is too large for Stripe",
    "charge_already_refunded": "The payment is refunded already",
    "charge_disputed": "The payment is disputed",
}
"""Messages for customers, by Stripe's error code: https://docs.stripe.com/error-codes."""

Answer = TypeVar("Answer")


async def answer_of(call: Awaitable[Answer]) -> Answer:
    """Await a call and return its answer. Raises ProviderAway, ProviderRefused, ProviderFailed.

    The library reads bodies outside of its own error handling, so aiohttp's errors come through.
    """
    try:
        return await call
    except stripe.StripeError as error:
        is_final = _is_final(error) and not isinstance(error, stripe.RateLimitError)
        # The key was used before, with other parameters: what was done then is not known.
        is_used = is_final and isinstance(error, stripe.IdempotencyError)
        if is_final and not is_used:
            raise _refusal(error) from error
        if is_used or _is_kept(error):
            raise ProviderFailed(FAILED, _said(error)) from error
        raise ProviderAway(_said(error)) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ProviderAway(repr(error)) from error


def _said(error: stripe.StripeError) -> str:
    """Return the error's text in one line of the log: the library's own have several."""
    return " ".join(str(error).split())


def _is_kept(error: stripe.StripeError) -> bool:
    """Return whether the answer is stored under the idempotency key, so that Stripe repeats it."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return (error.http_status or 0) >= 400 and headers.get("idempotent-replayed") == "true"


def _is_final(error: stripe.StripeError) -> bool:
    """Return whether Stripe did nothing and a retry would not help.

    An answer without an error object comes from a proxy, not from Stripe.
    """
    status = error.http_status or 0
    return error.error is not None and 400 <= status < 500 and status not in (408, 409, 424, 429)


def _refusal(error: stripe.StripeError) -> ProviderRefused:
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return ProviderRefused(NOT_CONFIGURED, _said(error))
    # The expiry was far enough away when the customer asked, but too near once the call was made.
    too_late = isinstance(error, stripe.InvalidRequestError) and error.param == "expires_at"
    otherwise = NOT_IN_TIME if too_late else NOT_ACCEPTED
    return ProviderRefused(REASONS.get(error.code or "", otherwise), _said(error))
