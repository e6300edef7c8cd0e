"""Skip tests that need something this machine does not have."""

import os
from typing import NoReturn

import pytest

NOT_DURABLE = "Java 17 or Maven is missing: Kafka's in-memory stand-in keeps nothing"


def skip(reason: str) -> NoReturn:
    """Skip the test; fail it in CI, which must have everything."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
