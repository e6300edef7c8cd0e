"""Amounts of money: integer minor units internally, JSON numbers of major units externally."""

from decimal import Decimal

MAX_MINOR = 999_999_999_999_999
"""9,999,999,999,999.99 in minor units: 15 digits, which a JSON double represents exactly."""


def to_minor(amount: object) -> int:
    """Convert a JSON number of major units, parsed as int or Decimal, to minor units.

    Raises ValueError, with a message for the client, for anything but a finite number from 0 to
    9,999,999,999,999.99 with at most two decimals.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        raise ValueError("must be a number")
    amount = Decimal(amount)
    if not amount.is_finite():
        raise ValueError("must be a finite number")
    if amount < 0:
        raise ValueError("must not be negative")
    if amount > Decimal(MAX_MINOR) / 100:
        raise ValueError("must not be more than 9999999999999.99")
    if int(amount.as_tuple().exponent) < -2:
        raise ValueError("must have at most two decimals")
    return int(amount * 100)


def to_major(minor: int) -> int | float:
    """Convert minor units to the JSON number of major units: 49900 is 499, 49950 is 499.5."""
    return minor // 100 if minor % 100 == 0 else minor / 100
