"""What workers tell each other of an event."""

from uuid import uuid4

import pytest

from app.outbox_rows import LONGEST_TOLD, LOOK, as_heard, as_told
from app.transaction import OutboxRow


def row(payload: str) -> OutboxRow:
    return OutboxRow(
        str(uuid4()), "order.paid", uuid4(), 3, "r", "2026-01-03T12:00:00.000000Z", payload.encode()
    )


def test_what_is_heard_is_what_was_told() -> None:
    told = row('{"reason": "zażółć \\"gęślą\\" jaźń"}')
    assert as_heard(as_told(told)) == told


@pytest.mark.parametrize("letter", ["x", "ż"])
def test_what_is_longer_than_a_notification_is_looked_for(letter: str) -> None:
    frame = len(as_told(row("")).encode())
    letters = (LONGEST_TOLD - frame) // len(letter.encode())
    assert len(as_told(row(letter * letters)).encode()) > LONGEST_TOLD - 2
    assert as_told(row(letter * (letters + 1))) == LOOK
