"""Nothing is armed by accident: it takes the test's setting in the process's own environment."""

import pytest

from app import crashes
from app.crashes import Point, arm_from, crash_here


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals sent to this process, which survives them."""
    signals: list[int] = []
    monkeypatch.setattr(crashes, "_armed", None)
    monkeypatch.setattr(crashes.os, "kill", lambda pid, number: signals.append(number))
    return signals


def test_an_armed_point_kills_its_own_subject_alone(killed: list[int]) -> None:
    arm_from({"CRASH_AT": "committed:stock.reserve", "CRASH_FOR_TESTS": "yes"})
    crash_here(Point.COMMITTED, "stock.release")
    crash_here(Point.WRITTEN, "stock.reserve")
    assert killed == []
    crash_here(Point.COMMITTED, "stock.reserve")
    assert killed == [9]


def test_nothing_is_armed_without_a_word(killed: list[int]) -> None:
    arm_from({"CRASH_FOR_TESTS": "yes"})
    arm_from({"CRASH_AT": "", "CRASH_FOR_TESTS": "yes"})
    for point in Point:
        crash_here(point, "")
    assert killed == []


@pytest.mark.parametrize("word", [{}, {"CRASH_FOR_TESTS": ""}, {"CRASH_FOR_TESTS": "true"}])
def test_a_process_that_is_not_a_tests_refuses_to_start(
    word: dict[str, str], killed: list[int]
) -> None:
    with pytest.raises(SystemExit, match="CRASH_FOR_TESTS=yes"):
        arm_from({"CRASH_AT": "committed:stock.reserve", **word})
    crash_here(Point.COMMITTED, "stock.reserve")
    assert killed == []


@pytest.mark.parametrize("crash_point", ["committed", "commited:stock.reserve", ":stock.reserve"])
def test_what_is_no_crash_point_is_refused(crash_point: str, killed: list[int]) -> None:
    with pytest.raises(SystemExit, match="CRASH_AT"):
        arm_from({"CRASH_AT": crash_point, "CRASH_FOR_TESTS": "yes"})


def test_whoever_is_armed_says_so(killed: list[int], caplog: pytest.LogCaptureFixture) -> None:
    arm_from({"CRASH_AT": "sent:relay", "CRASH_FOR_TESTS": "yes"})
    assert "will kill itself at sent:relay" in caplog.text
