"""Amounts are read from and written to JSON without losing a digit."""

from decimal import Decimal

import pytest

from app.money.amounts import MAX_MINOR, to_major, to_major_in, to_minor


@pytest.mark.parametrize(
    ("amount", "minor"),
    [
        (0, 0),
        (499, 49900),
        (Decimal("499.00"), 49900),
        (Decimal("99.9"), 9990),
        (Decimal("1e2"), 10000),
        (Decimal("9999999999999.99"), MAX_MINOR),
    ],
)
def test_major_units_become_minor_units(amount: object, minor: int) -> None:
    assert to_minor(amount) == minor


@pytest.mark.parametrize(
    "amount",
    [
        -1,
        Decimal("-0.01"),
        Decimal("0.001"),
        Decimal("10.000000000000000001"),
        Decimal("499.000"),
        Decimal("10000000000000"),
        Decimal("1e999999999"),
        Decimal("NaN"),
        Decimal("Infinity"),
        "5",
        True,
        None,
        [],
    ],
)
def test_what_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        to_minor(amount)


@pytest.mark.parametrize("minor", [0, 1, 10, 49900, 49950, 9999, MAX_MINOR, MAX_MINOR - 1])
def test_minor_units_survive_the_way_out_and_back(minor: int) -> None:
    assert to_minor(Decimal(repr(to_major(minor)))) == minor


def test_whole_amounts_are_told_without_decimals() -> None:
    assert repr(to_major(49900)) == "499"
    assert repr(to_major(MAX_MINOR)) == "9999999999999.99"


@pytest.mark.parametrize(
    ("minor", "currency", "major"),
    [
        (9999, "JPY", "9999"),
        (9999, "MGA", "9999"),
        (9990, "KWD", "9.99"),
        (MAX_MINOR, "KWD", "999999999999.999"),
        (12000, "BHD", "12"),
        (9999, "ISK", "99.99"),
        (9999, "UGX", "99.99"),
        (9900, "EUR", "99"),
    ],
)
def test_money_of_each_currency_is_told_as_stripe_counts_it(
    minor: int, currency: str, major: str
) -> None:
    assert repr(to_major_in(currency, minor)) == major
