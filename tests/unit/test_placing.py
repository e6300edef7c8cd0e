"""Which items of a new order are refused, by their places in the request."""

from uuid import UUID, uuid4

import pytest

from app.errors import (
    FieldError,
    InvalidInput,
    NotEnoughStock,
    Problem,
    ProductNotFound,
    TotalMismatch,
)
from app.identity.tokens import USER, Identity
from app.money.amounts import MAX_MINOR
from app.placing import Basket, price
from web.http.body_reading import validate
from web.shapes.bodies import NewOrder

ANN = Identity(uuid4(), None, USER)
PEN, CUP, MAP = uuid4(), uuid4(), uuid4()
CATALOGUE = {
    id: {"available": pieces, "price_minor": 1050, "currency": "PLN"}
    for id, pieces in {PEN: 5, CUP: 1}.items()
}


def refused(problem: type[Problem], *lines: tuple[UUID, int]) -> list[FieldError]:
    """Return what is told of an order of these lines that is refused."""
    items = [{"productId": str(id), "quantity": pieces} for id, pieces in lines]
    basket = validate(NewOrder, {"items": items, "totalAmount": 5}).basket()
    with pytest.raises(problem) as error:
        price(ANN, basket, CATALOGUE)
    assert error.value.detail == problem.__doc__
    return list(error.value.errors)


def test_each_item_of_an_unknown_product_is_named() -> None:
    told = refused(ProductNotFound, (PEN, 1), (MAP, 1), (CUP, 9), (MAP, 2))
    assert told == [
        FieldError("is not in the catalogue", "#/items/1/productId"),
        FieldError("is not in the catalogue", "#/items/3/productId"),
    ]


def test_each_item_of_a_product_of_which_there_is_too_little_is_named() -> None:
    told = refused(NotEnoughStock, (PEN, 3), (CUP, 1), (PEN, 3))
    assert told == [
        FieldError("only 5 in stock", "#/items/0/quantity"),
        FieldError("only 5 in stock", "#/items/2/quantity"),
    ]


def test_one_order_has_one_currency() -> None:
    in_euros = {**CATALOGUE[CUP], "currency": "EUR"}
    with pytest.raises(InvalidInput, match="different currencies"):
        price(ANN, Basket({PEN: 1, CUP: 1}, None), {**CATALOGUE, CUP: in_euros})


def test_an_order_s_total_has_a_limit() -> None:
    dear = {**CATALOGUE, CUP: {**CATALOGUE[CUP], "price_minor": MAX_MINOR}}
    assert price(ANN, Basket({CUP: 1}, None), dear).total_minor == MAX_MINOR
    with pytest.raises(InvalidInput, match="total is more than"):
        price(ANN, Basket({CUP: 1, PEN: 1}, None), dear)


def test_the_catalogue_s_total_is_told_in_major_units() -> None:
    told = refused(TotalMismatch, (PEN, 1), (CUP, 1), (PEN, 1))
    assert told == [FieldError("the catalogue's total is 31.5", "#/totalAmount")]
