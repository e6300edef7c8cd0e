"""The statuses of a payment, and how often paying and refunding may be tried. Pure values."""

from datetime import timedelta
from enum import StrEnum


class PaymentStatus(StrEnum):
    """The status of a payment attempt.

    VOIDED: its order did not wait for it. REFUND_FAILED: its refund has failed too often, and an
    operator has to decide.
    """

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    VOIDED = "VOIDED"
    REFUNDING = "REFUNDING"
    REFUNDED = "REFUNDED"
    REFUND_FAILED = "REFUND_FAILED"


LIVE = frozenset({PaymentStatus.PENDING, PaymentStatus.SUCCEEDED})
"""The statuses of a live attempt. An order has at most one live attempt that was requested here."""

MAX_ATTEMPTS, ATTEMPTS_WITHIN = 20, timedelta(minutes=10)
"""The most attempts to pay one order in that time: each step of an order reads all of them."""
MAX_FAILED_REFUNDS = 5
"""How many refunds of a payment may fail before it is left to an operator."""
