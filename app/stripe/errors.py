"""How a call of Stripe may fail: Stripe is away, refuses, or has failed for good."""

from collections.abc import Sequence
from typing import Any


class ProviderAway(Exception):
    """Raised when a payment provider did not answer, or asks to be asked again.

    Whether it has done the work is unknown: the same call is repeated with the same key.
    """


class ProviderRefused(Exception):
    """Raised when a payment provider will never do what was asked; `reason` is for the customer.

    The text is for the log alone. `refunds` are all that the provider has made of the payment, if a
    refund was asked for and the provider shows them.
    """

    def __init__(self, reason: str, detail: str, refunds: Sequence[Any] = ()) -> None:
        self.reason = reason
        self.refunds = refunds
        super().__init__(detail)


class ProviderFailed(ProviderRefused):
    """Raised when a payment provider failed at the work, and keeps that as the answer to its key.

    Whether it has done the work is unknown, and the same key will never tell.
    """
