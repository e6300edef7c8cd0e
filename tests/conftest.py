"""Servers, schema and worker for the tests that need them; each is started by its first use.

unit/ needs nothing running; integration/ needs servers; acceptance/, browser/, fuzz/ and chaos/
need a worker, and browser/ Chromium.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.ports import free_port
from devstack.stack import Stack
from devstack.stripe import Stripe
from devstack.worker import Worker, faust

SECRET = "a secret for tests, long enough for HS256"

# `import app` reads its settings; a test that needs a server passes that server's address.
os.environ.update(
    JWT_SECRET=SECRET,
    DB_URL="postgresql://nobody@127.0.0.1:1/nothing",
    REDIS_URL="redis://127.0.0.1:1/0",
    KAFKA_BROKERS="127.0.0.1:1",
)


def run_command(environment: dict[str, str], *arguments: str, stdin: str = "") -> str:
    """Run `faust -A app …` and return its output. Fails the test if the command fails."""
    done = run(environment, arguments, stdin)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_in_vain(environment: dict[str, str], *arguments: str) -> str:
    """Run `faust -A app …` and return stdout and stderr. Fails the test if the command succeeds."""
    done = run(environment, arguments, "")
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


def run(
    environment: dict[str, str], arguments: tuple[str, ...], stdin: str
) -> subprocess.CompletedProcess[str]:
    """Run `faust -A app …` and return the result, whether it failed or not."""
    return subprocess.run(
        faust(*arguments),
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, Redis and Kafka, empty."""
    with Stack(tmp_path_factory.mktemp("servers")) as stack:
        yield stack


@pytest.fixture(scope="session")
def port() -> int:
    """The port of the worker."""
    return free_port()


@pytest.fixture(scope="session")
def stripe_stand_in(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stripe]:
    """The stand-in for Stripe, with webhooks to the worker."""
    webhook_url = f"http://127.0.0.1:{port}/api/stripe/webhook"
    with Stripe(tmp_path_factory.mktemp("stripe"), webhook_url=webhook_url) as stripe:
        yield stripe


@pytest.fixture(scope="session")
def environment(stack: Stack, stripe_stand_in: Stripe, port: int) -> dict[str, str]:
    """The worker's environment: servers with schema, topics and the demo catalogue, and Stripe."""
    environment = {**stack.environment, **stripe_stand_in.worker_environment}
    environment |= {"JWT_SECRET": SECRET, "PORT": str(port)}
    run_command(environment, "migrate")
    run_command(environment, "demo-catalogue")
    return environment


@pytest.fixture(scope="session")
def worker(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """A worker, started by the CLI and ready."""
    folder: Path = tmp_path_factory.mktemp("worker")
    with Worker(environment, folder / "data", folder / "worker.log") as worker:
        worker.wait_ready()
        yield worker
