"""What a cursor may be, and of which list it is."""

import base64
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from multidict import MultiDict

from app.errors import InvalidInput
from web.cursors import Cursor, page, position_in, read_cursor
from web.http.query_reading import read_query
from web.shapes.query_strings import PageQuery

HERE = Cursor(["ann", None], ["Zażółć", "17"])


def query(**given: str) -> PageQuery:
    request = SimpleNamespace(query=MultiDict(given))
    return read_query(cast(Any, request), PageQuery)


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def test_the_next_page_begins_behind_the_last_entry_of_this_one() -> None:
    entries = [({"n": n}, [str(n), "id"]) for n in (1, 2, 3)]
    told = page(entries, 2, ["ann", None])
    assert (told["data"], told["hasMore"]) == ([{"n": 1}, {"n": 2}], True)
    assert position_in(query(cursor=told["nextCursor"]).cursor, ["ann", None]) == ["2", "id"]
    assert page(entries, 3, [])["nextCursor"] is None


def test_a_cursor_is_of_the_list_with_its_filters() -> None:
    assert position_in(None, ["ann", None]) is None
    assert read_cursor(str(HERE)) == HERE
    with pytest.raises(InvalidInput) as refused:
        position_in(HERE, ["bob", None])
    assert [flaw.pointer for flaw in refused.value.errors] == ["#/cursor"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "abcd", "!!!", "\x00", "ż", "AAAA", "=" * 8),
        *map(encoded, [5, None, [], {}, "x", "xy", [[], []], [None, None], [[None], [1, 2]]]),
        *map(encoded, [[{}, ["a", "b"]], [[], {"a": 1, "b": 2}], [[], "ab"], [[], ["a"]]]),
        encoded([[], ["a", "b"], []]),
        encoded([[], ["\x00", "b"]]),
    ],
)
def test_what_is_no_cursor_is_named_beside_a_bad_limit(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        query(limit="0", cursor=text)
    assert {flaw.pointer: flaw.detail for flaw in refused.value.errors} == {
        "#/limit": "must be a whole number from 1 to 100",
        "#/cursor": "is not a cursor of this list",
    }
