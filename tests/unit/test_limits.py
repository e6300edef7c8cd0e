"""What a worker asks of the operating system."""

from collections.abc import Iterator
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import pytest

from app.kafka.faust_app import allow_open_files


@pytest.fixture
def few() -> Iterator[int]:
    """A limit on open files that is half of what this process may have, until the test ends."""
    before, most = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (most // 2, most))
    yield most // 2
    setrlimit(RLIMIT_NOFILE, (before, most))


def test_a_worker_may_open_as_many_files_as_it_may_ask_for(few: int) -> None:
    assert getrlimit(RLIMIT_NOFILE)[0] == few
    allow_open_files()
    allowed, most = getrlimit(RLIMIT_NOFILE)
    assert allowed == most
