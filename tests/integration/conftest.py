"""PostgreSQL with the schema, used by the code under test in this process."""

from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest

from app import catalogue
from app.db.pools import SHORT_WAITS, Database
from app.identity.tokens import Identity
from app.kafka.broker_access import Brokers
from app.placing import Basket, PlaceOrder, place
from devstack.redis import Redis
from devstack.stack import Stack
from tests.conftest import SECRET
from tests.furnish import furnish
from tests.integration.money_course import forget_what_is_due


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers of their own, as a worker would handle the orders that these tests leave halfway."""
    with Stack(tmp_path_factory.mktemp("servers")) as stack:
        yield stack


@pytest.fixture(scope="session")
def environment(stack: Stack) -> dict[str, str]:
    """The environment of commands: these servers, with schema, topics and the demo catalogue."""
    environment = {**stack.environment, "JWT_SECRET": SECRET}
    furnish(environment, catalogue=True)
    return environment


@pytest.fixture(scope="session")
def brokers(environment: dict[str, str]) -> Brokers:
    """The tests' broker, in plain text."""
    return Brokers([environment["KAFKA_BROKERS"]])


@pytest.fixture(scope="session")
async def database(environment: dict[str, str]) -> AsyncIterator[Database]:
    """A pool on the tests' PostgreSQL, without relay or cache behind it."""
    database = Database({"dsn": environment["DB_URL"]}, 5)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def hasty(database: Database) -> AsyncIterator[Database]:
    """A pool for batches, which waits only briefly for locks."""
    hasty = Database(database._dsn, 2, "hasty", **SHORT_WAITS)
    await hasty.open()
    yield hasty
    await hasty.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis of the module's own."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
async def nothing_due(database: Database) -> None:
    """Remove what is due from other tests."""
    await forget_what_is_due(database)


@pytest.fixture
async def order_id(database: Database) -> UUID:
    """A placed order."""
    product = await catalogue.create_product(
        database,
        name=f"Product {uuid4()}",
        price_minor=9999,
        currency="PLN",
        quantity=10,
        description=None,
        category=None,
    )
    customer = Identity(uuid4(), "ann@example.com", "USER")
    basket = Basket({UUID(product["id"]): 2}, None)
    order, _ = await place(database, PlaceOrder(customer, basket, None, "a request"))
    return UUID(order["id"])
