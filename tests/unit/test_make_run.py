"""What `make run` tells other shells of itself."""

import os
from pathlib import Path

import pytest

from devstack.settings import Refused, only_one, read_settings, tell_environment

CHECKOUT = Path(__file__).parents[2]


def test_all_settings_of_the_worker_are_told_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that `make run` was given: the shell that sources the file may lack it."""
    monkeypatch.setenv("DB_URL", "postgresql://it's here")
    worker = {"PATH": "/bin", "DB_URL": "postgresql://it's here", "STRIPE_API_BASE": "http://x"}
    tell_environment(CHECKOUT, tmp_path, worker)
    told = (tmp_path / "environment").read_text()
    assert told == "DB_URL='postgresql://it'\"'\"'s here'\nSTRIPE_API_BASE=http://x\n"


def test_who_comes_second_is_told_how_to_stop_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        with only_one(tmp_path), pytest.raises(Refused, match=f"`kill {os.getpid()}` stops it"):
            only_one(tmp_path).__enter__()


def test_a_file_of_settings_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("DB_PASSWORD=złość".encode("latin2"))
    with pytest.raises(Refused, match=r"^\.env: [^\n]+$"):
        read_settings(tmp_path)
