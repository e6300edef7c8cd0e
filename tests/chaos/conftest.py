"""Fixtures that give each test its own servers, because the test kills them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.stack import Stack
from tests.chaos.deployment import Deployment
from tests.conftest import SECRET
from tests.furnish import furnish
from tests.missing import NOT_DURABLE, skip


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Durable servers with schema, topics and catalogue, without a worker."""
    with Stack(tmp_path) as stack:
        if not stack.broker.durable:
            skip(NOT_DURABLE)
        environment = {**stack.environment, "JWT_SECRET": SECRET}
        furnish(environment, catalogue=True)
        deployment = Deployment(stack, environment, tmp_path)
        try:
            yield deployment
        finally:
            deployment.close()
