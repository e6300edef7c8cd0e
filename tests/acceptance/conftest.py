"""Clients of the worker, and access to what it keeps in PostgreSQL, Kafka and its log."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from devstack.stripe import Stripe
from devstack.worker import Worker
from tests.acceptance.broker import Broker
from tests.acceptance.client import Api, eventually
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.records import Records
from tests.acceptance.rows import Rows
from tests.acceptance.stripe_stand_in import StripeStandIn
from tests.acceptance.tokens import token
from tests.conftest import run_command
from tests.integration.stripe_stand_in import StandIn

Metric = Callable[..., Awaitable[float]]
NewCustomer = Callable[..., Customer]


@pytest.fixture(scope="session")
async def api(worker: Worker) -> AsyncIterator[Api]:
    """The worker, for a client without a token."""
    async with aiohttp.ClientSession() as session:
        yield Api(session, worker.url)


@pytest.fixture(scope="session")
def new_customer(api: Api) -> NewCustomer:
    """Makes customers with tokens of another issuer, which have no account here."""

    def make(**claims: Any) -> Customer:
        id = str(uuid4())
        claims = {"userId": id, "email": f"{id}@example.com", **claims}
        return Customer(api, token(**claims), id, claims["email"])

    return make


@pytest.fixture
def customer(new_customer: NewCustomer) -> Customer:
    """A new customer."""
    return new_customer()


@pytest.fixture
def stranger(new_customer: NewCustomer) -> Customer:
    """Another new customer."""
    return new_customer()


@pytest.fixture(scope="session")
def admin_account(environment: dict[str, str]) -> dict[str, str]:
    """Email and password of an administrator, made by the command."""
    email, password = f"admin-{uuid4()}@example.com", secrets.token_urlsafe(16)
    run_command(
        environment, "create-admin", "--email", email, "--password-stdin", stdin=f"{password}\n"
    )
    return {"email": email, "password": password}


@pytest.fixture(scope="session")
async def admin(api: Api, admin_account: dict[str, str]) -> Admin:
    """An administrator, logged in."""
    bearer = (await api.ask("POST", "/api/auth/login", json=admin_account)).body["token"]
    me = await api.ask("GET", "/api/auth/me", headers={"Authorization": f"Bearer {bearer}"})
    return Admin(api, bearer, me.body["id"], admin_account["email"])


@pytest.fixture
async def product(admin: Admin) -> dict[str, Any]:
    """A product with ten pieces at 499."""
    return await admin.adds()


@pytest.fixture
async def order(customer: Customer, product: dict[str, Any]) -> dict[str, Any]:
    """An unpaid order of two of ten pieces, 998 in total."""
    return await customer.placed(product, 2)


@pytest.fixture(scope="session")
async def records(environment: dict[str, str], worker: Worker) -> AsyncIterator[Records]:
    """Access to what PostgreSQL holds."""
    connection = await asyncpg.connect(environment["DB_URL"])
    yield Records(connection)
    await connection.close()


@pytest.fixture
async def stripe(
    stripe_stand_in: Stripe, environment: dict[str, str], worker: Worker
) -> AsyncIterator[StripeStandIn]:
    """Stripe at rest; on exit, everything the test told it to do is reset."""
    connection = await asyncpg.connect(environment["DB_URL"])
    async with aiohttp.ClientSession() as session:
        stripe = StripeStandIn(StandIn(stripe_stand_in, session), connection)
        await stripe.come_to_rest()
        yield stripe
        await stripe.whims()
        await stripe.hold(False)
        await stripe.deliver()
        await stripe.hurry()
        await stripe.come_to_rest()
    await connection.close()


@pytest.fixture(scope="session")
async def rows(environment: dict[str, str], worker: Worker) -> AsyncIterator[Rows]:
    """A way to insert rows that no client can."""
    connection = await asyncpg.connect(environment["DB_URL"])
    yield Rows(connection)
    await connection.close()


@pytest.fixture(scope="session")
async def broker(environment: dict[str, str], worker: Worker) -> AsyncIterator[Broker]:
    """Access to what is in Kafka."""
    brokers = environment["KAFKA_BROKERS"]
    async with AIOKafkaProducer(bootstrap_servers=brokers) as producer:
        yield Broker(brokers, producer)


@pytest.fixture(scope="session")
def metric(api: Api) -> Metric:
    """Reads a sample of /metrics by its name and labels; a missing one is 0."""

    async def read(name: str, **labels: str) -> float:
        text = (await api.ask("GET", "/metrics")).body
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        return sum(
            s.value for s in samples if s.name == name and labels.items() <= s.labels.items()
        )

    return read


@pytest.fixture(scope="session")
def log_lines(worker: Worker) -> Callable[[str], list[str]]:
    """Finds the lines of the worker's log that contain a text."""

    def find(text: str) -> list[str]:
        return [line for line in worker.log.read_text().splitlines() if text in line]

    return find


@pytest.fixture(scope="session")
def logged(log_lines: Callable[[str], list[str]]) -> Callable[[str], Awaitable[list[str]]]:
    """Waits for a text in the worker's log; returns the lines that contain it."""

    async def wait(text: str) -> list[str]:
        async def look() -> list[str]:
            return log_lines(text)

        return await eventually(look, bool)

    return wait
