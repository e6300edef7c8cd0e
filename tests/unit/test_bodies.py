"""What a request body may contain, and how errors in it are reported."""

from decimal import Decimal
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from app.errors import FieldError, InvalidInput, UnsupportedMediaType
from web.http.body_reading import parse, unpacked_body, validate
from web.shapes.bodies import Body, Cancel, NewOrder, NewProduct, Register

PEN = "0b0e6c3e-6f0c-4d2f-9d0e-3f1a0e0c0a01"


class HungUp:
    """A request whose client closes the connection before its body is whole."""

    client_max_size, content_length = 1000, 50

    async def read(self) -> bytes:
        raise ConnectionResetError("Connection lost")


def pointers(error: pytest.ExceptionInfo[InvalidInput]) -> set[str]:
    return {flaw.pointer for flaw in error.value.errors}


def test_numbers_are_read_exactly() -> None:
    assert parse(b"10.000000000000000001", "application/json") == Decimal("10.000000000000000001")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"NaN", b"\xff", b"[" * 100_000, b"1" * 5000, b'{"a":Infinity}']
)
def test_what_is_not_json_is_invalid(raw: bytes) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(raw, "application/json")
    assert pointers(error) == {"#"}


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"amount": 499, "amount": 1}', "amount"),
        (b'{"amount": 1, "amount": 1}', "amount"),
        (b'{"a": {"b": [{}, {"c": 1, "d": 2, "c": null}]}}', "c"),
        (b'{"a": 1, "\\u0061": 2}', "a"),
        (b'{"": 1, "": 2}', ""),
        (b'{"\\ud800\\u0000": 1, "\\ud800\\u0000": 2}', "?\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_an_object_has_each_name_once(raw: bytes, name: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(raw, "application/json")
    told = f'The body has "{name}" twice in one object'
    assert (error.value.detail, error.value.errors) == (told, [FieldError(told, "#")])


def test_different_objects_may_have_the_same_names() -> None:
    assert parse(b'[{"a": {"a": 1}}, {"a": 2, "A": 3}]', "application/json") == [
        {"a": {"a": 1}},
        {"a": 2, "A": 3},
    ]


def test_only_json_is_read() -> None:
    with pytest.raises(UnsupportedMediaType):
        parse(b"{}", "text/plain")
    assert parse(b"{}", "application/merge-patch+json") == {}


def test_every_bad_field_is_named() -> None:
    body = {"items": [{"productId": "x", "quantity": 0}, {}], "totalAmount": -1}
    with pytest.raises(InvalidInput) as error:
        validate(NewOrder, body)
    assert pointers(error) == {
        "#/items/0/productId",
        "#/items/0/quantity",
        "#/items/1/productId",
        "#/items/1/quantity",
        "#/totalAmount",
    }


@pytest.mark.parametrize("id", ["}", "{", "{0}", "{x}", "%s", "{}"])
def test_what_a_client_wrote_is_no_template_of_a_refusal(id: str) -> None:
    with pytest.raises(InvalidInput) as error:
        validate(NewOrder, {"items": [{"productId": id, "quantity": 1}]})
    assert pointers(error) == {"#/items/0/productId"}


@pytest.mark.parametrize("text", [b"5", b"5.0", b"5e0", b"0.5e1", b"50e-1"])
def test_a_whole_number_is_one_however_it_is_written(text: bytes) -> None:
    line = b'{"productId": "%s", "quantity": %s}' % (PEN.encode(), text)
    body = parse(b'{"items": [%s]}' % line, "application/json")
    assert validate(NewOrder, body).basket().pieces == {UUID(PEN): 5}


@pytest.mark.parametrize(
    "quantity",
    [
        0,
        -1,
        1_000_001,
        1.5,
        "1",
        True,
        None,
        *map(
            Decimal,
            ("1.5", "1.00000000000000000000000000000001", "1e-999999999", "1e999999999", "-0.0"),
        ),
    ],
)
def test_a_quantity_is_a_whole_number_within_bounds(quantity: Any) -> None:
    with pytest.raises(InvalidInput) as error:
        validate(NewOrder, {"items": [{"productId": PEN, "quantity": quantity}]})
    assert pointers(error) == {"#/items/0/quantity"}


def test_the_same_product_twice_is_merged() -> None:
    lines = [{"productId": PEN, "quantity": 2}, {"productId": PEN.upper(), "quantity": 3}]
    assert validate(NewOrder, {"items": lines}).basket().pieces == {UUID(PEN): 5}


@pytest.mark.parametrize("count", [0, 101])
def test_an_order_has_1_to_100_lines(count: int) -> None:
    lines = [{"productId": str(uuid4()), "quantity": 1} for _ in range(count)]
    with pytest.raises(InvalidInput) as error:
        validate(NewOrder, {"items": lines})
    assert pointers(error) == {"#/items"}


@pytest.mark.parametrize("name", ["", "  ", "a\x00b", "\ud800", "x" * 201, 5, None])
def test_a_product_has_a_name_that_can_be_stored(name: Any) -> None:
    with pytest.raises(InvalidInput) as error:
        validate(NewProduct, {"productName": name, "price": 1, "quantity": 1})
    assert pointers(error) == {"#/productName"}


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("1234567", "must have at least 8 characters"),
        ("x" * 129, "must have at most 128 characters"),
    ],
)
def test_a_password_has_8_to_128_characters(password: str, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        validate(Register, {"email": "ann@example.com", "password": password})
    assert error.value.errors == [FieldError(told, "#/password")]


def test_an_email_longer_than_any_is_refused_before_it_is_normalised() -> None:
    """Normalising thousands of combining marks holds up the whole worker."""
    email = "a" + "\u0301\u0327" * 200 + "@example.com"
    with pytest.raises(InvalidInput) as error:
        validate(Register, {"email": email, "password": "correct horse"})
    assert error.value.errors == [FieldError("must have at most 320 characters", "#/email")]


@pytest.mark.parametrize(
    ("shape", "value", "told"),
    [
        (NewOrder, {"items": [1]}, FieldError("must be a JSON object", "#/items/0")),
        (NewOrder, {}, FieldError("is required", "#/items")),
        (NewOrder, {"items": []}, FieldError("must have at least 1", "#/items")),
        (NewOrder, {"items": [1] * 101}, FieldError("must have at most 100", "#/items")),
        (
            NewOrder,
            {"items": [{"productId": 1, "quantity": 1}]},
            FieldError("must be a UUID", "#/items/0/productId"),
        ),
        (Cancel, {"a/b~c d": 1}, FieldError("is not known here", "#/a~1b~0c%20d")),
    ],
)
def test_what_is_wrong_is_told_in_words_of_json(
    shape: type[Body], value: Any, told: FieldError
) -> None:
    with pytest.raises(InvalidInput) as error:
        validate(shape, value)
    assert error.value.errors == [told]


def test_spaces_around_a_name_are_no_part_of_it() -> None:
    made = validate(NewProduct, {"productName": " a pen ", "price": 1, "quantity": 1})
    assert made.product_name == "a pen"


async def test_a_client_that_hangs_up_while_it_sends_is_no_trouble_of_ours() -> None:
    with pytest.raises(InvalidInput):
        await unpacked_body(cast(Any, HungUp()))
