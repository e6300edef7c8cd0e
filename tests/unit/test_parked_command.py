"""The command for parked messages: who it says has decided."""

import os

import pytest

from app.operations.parked_command import _actor


@pytest.mark.parametrize(("by", "name"), [(None, "user 54321"), ("ann", "ann")])
def test_a_user_without_a_name_is_told_by_its_number(
    monkeypatch: pytest.MonkeyPatch, by: str | None, name: str
) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert _actor({"by": by, "reason": "corrected"}).name == name
