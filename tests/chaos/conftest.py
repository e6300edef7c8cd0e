"""Fixtures that give each test its own servers, because the test kills them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.stack import Stack
from tests.chaos.deployment import Deployment, deployed
from tests.missing import NOT_DURABLE, skip


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Durable servers with schema, topics and catalogue, without a worker."""
    with Stack(tmp_path) as stack:
        if not stack.broker.durable:
            skip(NOT_DURABLE)
        with deployed(stack, tmp_path) as deployment:
            yield deployment
