"""Every error is declared once, and completely."""

from collections import defaultdict

from app import errors
from app.errors import every_problem


def test_each_type_has_one_title_and_one_status() -> None:
    by_slug = defaultdict(set)
    for error in every_problem():
        by_slug[error.slug].add((error.status, error.title))
    assert all(len(told) == 1 for told in by_slug.values())
    assert len(by_slug) == len(every_problem())


def test_each_error_says_in_its_docstring_what_the_client_reads() -> None:
    for error in every_problem():
        assert error.__doc__ and not error.__doc__.endswith(".") and "\n" not in error.__doc__


def test_the_texts_that_older_clients_know() -> None:
    assert errors.OrderNotFound().detail == "Order not found"
    assert errors.ProductNotFound().detail == "Product not found"
    assert errors.NotEnoughStock().detail == "Not enough stock"
    assert errors.NotPayable().detail == "Only CREATED orders can be paid"
    assert errors.NotCancellable().detail == "Only CREATED or PAID orders can be cancelled"
    assert errors.EmailTaken().detail == "Email already exists"
    assert errors.InvalidCredentials().detail == "Invalid credentials"
