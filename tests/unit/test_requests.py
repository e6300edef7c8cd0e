"""What the headers of a request mean."""

from uuid import UUID

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from app.errors import InvalidInput, OrderNotFound
from app.identity.tokens import Identity
from tests.unit.ids import ID, MISWRITTEN_IDS
from web.http.requests import bearer_token, idempotency_key, is_known, path_id, required_versions


@pytest.mark.parametrize("text", [ID, ID.upper()])
def test_an_id_of_a_path_may_be_in_either_case(text: str) -> None:
    assert str(path_id(text, OrderNotFound)) == ID


@pytest.mark.parametrize("text", MISWRITTEN_IDS)
def test_nothing_has_an_id_that_is_written_otherwise(text: str) -> None:
    with pytest.raises(OrderNotFound):
        path_id(text, OrderNotFound)


@pytest.mark.parametrize("header", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c"])
def test_the_scheme_of_a_token_may_be_in_either_case(header: str) -> None:
    assert bearer_token(make_mocked_request("GET", "/", {"Authorization": header})) == "a.b.c"


async def test_of_two_keys_neither_is_chosen() -> None:
    headers = CIMultiDict([("Idempotency-Key", "one"), ("Idempotency-Key", "one")])
    request = make_mocked_request("POST", "/", headers)
    with pytest.raises(InvalidInput, match="once"):
        await idempotency_key(request, Identity(UUID(ID), None, "USER"))


def versions(*lines: str) -> frozenset[int] | None:
    """Return what If-Match requires, given in these lines."""
    headers = CIMultiDict([("If-Match", line) for line in lines])
    return required_versions(make_mocked_request("PATCH", "/", headers=headers))


def test_without_if_match_and_with_a_star_any_version_will_do() -> None:
    assert versions() is None
    assert versions("*") is None


@pytest.mark.parametrize(
    ("lines", "meant"),
    [
        (['"3"'], {3}),
        (['"7", "1"'], {1, 7}),
        (['"7"', '"1"'], {1, 7}),
        ([', "7",,"1" ,'], {1, 7}),
        (['W/"3"'], set()),
        (['W/"3", "4"'], {4}),
        (['"x"'], set()),
        (['"0"', '"01"'], set()),
        (['""'], set()),
        (['"a,b", "2"'], {2}),
        (['"W/"'], set()),
        (['"' + "9" * 30 + '"'], set()),
    ],
)
def test_tags_that_are_ours_name_versions_and_others_match_nothing(
    lines: list[str], meant: set[int]
) -> None:
    assert versions(*lines) == meant


@pytest.mark.parametrize(
    "header",
    ["", ",", "3", "'3'", "word", '"3', '3"', 'w/"3"', '"a b"', '"1" "2"', '*, "1"', '"1", 2'],
)
def test_what_is_no_list_of_tags_is_refused_by_the_header_s_name(header: str) -> None:
    with pytest.raises(InvalidInput, match="If-Match") as error:
        versions(header)
    assert [flaw.pointer for flaw in error.value.errors] == ["#"]


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False),
        ("*", True),
        ('"1"', True),
        ('W/"1"', True),
        ('"7", "1"', True),
        ('"*"', False),
        ('W/"*"', False),
        ('"7", "*"', False),
        ('"7"', False),
        ("1", False),
    ],
)
def test_the_client_has_what_it_names_and_a_bare_star_names_all(
    header: str | None, known: bool
) -> None:
    headers = {"If-None-Match": header} if header else {}
    assert is_known(make_mocked_request("GET", "/", headers=headers), '"1"') is known
