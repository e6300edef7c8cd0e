"""A Redis that hangs for a while: it is there, and does not answer."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from devstack.redis import Redis


@contextmanager
def hanging(redis: Redis) -> Iterator[None]:
    """Have Redis stand still while the context lasts."""
    assert redis.pid
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(redis.pid, signal.SIGCONT)
