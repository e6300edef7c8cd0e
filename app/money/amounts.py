"""Amounts of money: integer minor units internally, JSON numbers of major units externally."""

from decimal import Decimal

MAX_MINOR = 999_999_999_999_999
"""9,999,999,999,999.99 in minor units: 15 digits, which a JSON double represents exactly."""

WHOLE = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
        *("PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)
"""Currencies that Stripe counts in whole units: https://docs.stripe.com/currencies#zero-decimal.

ISK and UGX have no decimals either, but Stripe counts them in hundredths.
"""
THOUSANDTHS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
"""Currencies that Stripe counts in thousandths."""


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
    """Convert minor units to the JSON number of major units: 49900 is 499, 49950 is 499.5.

    This is for the currency of orders, which has two decimals; `to_major_in` is for any other.
    """
    return minor // 100 if minor % 100 == 0 else minor / 100


def to_major_in(currency: str, minor: int) -> int | float:
    """Convert minor units of any currency, as Stripe counts them: 500 JPY is 500, of KWD 0.5."""
    if currency in WHOLE:
        return minor
    if currency in THOUSANDTHS:
        return minor // 1000 if minor % 1000 == 0 else minor / 1000
    return to_major(minor)
