"""A worker with its own servers, because fuzzing would drown what other tests look for."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from app.errors import every_problem
from devstack.ports import free_port
from devstack.stack import Stack
from devstack.worker import Worker
from tests.acceptance.client import Api
from tests.acceptance.conftest import metric as metric
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.rows import Rows
from tests.acceptance.tokens import token
from tests.conftest import SECRET
from tests.furnish import furnish
from tests.fuzz.run import Caller

PRODUCTS, ORDERS = 30, 20
LATE = datetime.now(UTC) + timedelta(days=7)
"""The expiry of the tokens, later than the end of any run."""
# All requests come from one address; other tests cover rate limits.
UNLIMITED = {"AUTH_RATE_LIMIT": "1000000/minute", "LOGIN_FAILURES_LIMIT": "1000000/minute"}


@pytest.fixture(scope="session")
def fuzz_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The servers of the fuzzed worker."""
    with Stack(tmp_path_factory.mktemp("fuzz-servers")) as stack:
        yield stack


@pytest.fixture(scope="session")
def fuzzed(fuzz_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The worker that receives the fuzzed requests."""
    folder = tmp_path_factory.mktemp("fuzz")
    environment = {**fuzz_stack.environment, **UNLIMITED, "JWT_SECRET": SECRET}
    environment["PORT"] = str(free_port())
    furnish(environment, catalogue=False)
    with Worker(environment, folder / "data", folder / "worker.log") as worker:
        worker.wait_ready()
        yield worker


@pytest.fixture(scope="session")
async def api(fuzzed: Worker) -> AsyncIterator[Api]:
    """The worker, for a client without a token."""
    async with aiohttp.ClientSession() as session:
        yield Api(session, fuzzed.url)


@pytest.fixture(scope="session")
def admin(api: Api) -> Admin:
    """An administrator."""
    return Admin(api, *_identity("ADMIN"))


@pytest.fixture(scope="session")
def customer(api: Api) -> Customer:
    """The customer whose orders are in the dictionaries."""
    return Customer(api, *_identity("USER"))


@pytest.fixture(scope="session")
def callers(admin: Admin, customer: Customer) -> list[Caller]:
    """Everyone who sends requests."""
    stranger, *_ = _identity("USER")
    return [
        Caller("customer", customer.token, stranger),
        Caller("admin", admin.token),
        Caller("nobody"),
    ]


@pytest.fixture(scope="session")
async def known(
    admin: Admin,
    customer: Customer,
    fuzz_stack: Stack,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Dictionaries of what exists.

    Products in stock, the customer's orders, parked messages of them, an account, and problems.
    """
    folder = tmp_path_factory.mktemp("known")
    products = [await admin.adds(price=1, quantity=10**9) for _ in range(PRODUCTS)]
    orders = [await customer.placed(product) for product in products[:ORDERS]]
    _write(folder / "products.dict", [product["id"] for product in products])
    _write(folder / "orders.dict", [order["id"] for order in orders])
    _write(folder / "parked.dict", await _parked(fuzz_stack, orders))
    account = {"email": f"{uuid4()}@example.com", "password": str(uuid4())}
    assert (await admin.ask("POST", "/api/auth/register", json=account)).status == 200
    _write(folder / "emails.dict", [account["email"]])
    _write(folder / "passwords.dict", [account["password"]])
    _write(folder / "problems.dict", [problem.slug for problem in every_problem()])
    return folder


async def _parked(stack: Stack, orders: list[dict[str, Any]]) -> list[str]:
    connection = await asyncpg.connect(stack.postgres.url)
    try:
        rows = Rows(connection)
        return [await rows.park(order) for order in orders]
    finally:
        await connection.close()


def _identity(role: str) -> tuple[str, str, str]:
    id = str(uuid4())
    email = f"{id}@example.com"
    return token(userId=id, email=email, role=role, exp=LATE), id, email


def _write(path: Path, entries: list[str]) -> None:
    path.write_text("\n".join(map(json.dumps, entries)))
