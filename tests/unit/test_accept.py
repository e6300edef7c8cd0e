"""Which of two media types a client prefers."""

import pytest

from web.http.accept import prefers

STREAM, JSON = "text/event-stream", "application/json"


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream",
        "TEXT/EVENT-STREAM",
        "Text/Event-Stream; charset=utf-8",
        "text/event-stream;q=0.001",
        "text/event-stream ; Q=1.000",
        "text/*",
        "text/event-stream, */*",
        "application/json, text/event-stream",
        "application/json;q=0.5, text/event-stream;q=0.5",
        "application/json;q=0.5, text/event-stream",
        "application/json;q=0, */*",
        "*/*;q=0.1, text/event-stream;q=0.2",
    ],
)
def test_a_stream_is_wanted(accept: str) -> None:
    assert prefers(accept, STREAM, JSON)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        ",",
        "*/*",
        "text/html",
        "application/json",
        "text/event-stream;q=0",
        "text/event-stream;q=0.000",
        "text/event-stream;q=x",
        "text/event-stream;q=2",
        "text/event-streams",
        "application/x+text/event-stream",
        'application/json;about="text/event-stream"',
        "text/*, text/event-stream;q=0",
        "application/json, */*",
        "application/json, text/event-stream;q=0.5",
        "text/event-stream;q=0.5, application/*",
        "text/event-stream;q=0.5, */*",
    ],
)
def test_a_stream_is_not_wanted(accept: str) -> None:
    assert not prefers(accept, STREAM, JSON)
