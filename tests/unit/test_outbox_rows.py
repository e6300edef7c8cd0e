"""What workers are notified of events, and the headers of events."""

from uuid import uuid4

import pytest

from app.db.rows import OutboxRow
from app.outbox.rows import (
    LOOK,
    MAX_NOTIFY_BYTES,
    decode_from_notify,
    encode_for_notify,
    headers_of,
)


def row(payload: str) -> OutboxRow:
    return OutboxRow(
        str(uuid4()), "order.paid", uuid4(), 3, "r", "2026-01-03T12:00:00.000000Z", payload.encode()
    )


def test_what_is_heard_is_what_was_told() -> None:
    told = row('{"reason": "zażółć \\"gęślą\\" jaźń"}')
    assert decode_from_notify(encode_for_notify(told)) == told


@pytest.mark.parametrize("letter", ["x", "ż"])
def test_what_is_longer_than_a_notification_is_looked_for(letter: str) -> None:
    frame = len(encode_for_notify(row("")).encode())
    letters = (MAX_NOTIFY_BYTES - frame) // len(letter.encode())
    assert len(encode_for_notify(row(letter * letters)).encode()) > MAX_NOTIFY_BYTES - 2
    assert encode_for_notify(row(letter * (letters + 1))) == LOOK


@pytest.mark.parametrize(
    ("request_id", "trace_id"),
    [
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("a request", "af0bf2a562dabe2a81e0b0b47a33a515"),
        ("1" * 33, "94c67361bc2fcf817a8cd0da1efca6fd"),
        ("0" * 32, "84e0c0eafaa95a34c293f278ac52e45c"),
    ],
)
def test_a_request_s_events_are_one_trace(request_id: str, trace_id: str) -> None:
    event = row("{}")._replace(request_id=request_id)
    headers = dict(headers_of(event))
    span = event.event_id.replace("-", "")[16:]
    assert headers["traceparent"].decode() == f"00-{trace_id}-{span}-01"
    assert headers["x-request-id"].decode() == request_id
