"""How many statements each operation executes, by PostgreSQL's log, whatever the data's size."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from devstack.stack import Stack
from tests.acceptance.client import Answer, Api, eventually
from tests.acceptance.customer import Admin, Customer, basket
from tests.acceptance.rows import Rows
from tests.acceptance.statements import PREFIX, Cost, StatementLog
from tests.acceptance.stripe_stand_in import as_bytes, session_event, signed

Json = dict[str, Any]
NOTHING = Cost(0)
LOGGING = {"log_statement": "all", "log_line_prefix": PREFIX}


@dataclass
class Scene:
    """The clients and the data for requests."""

    api: Api
    admin: Admin
    customer: Customer
    product: Json
    account: Json
    stripe_secret: str
    rows: Rows

    async def order(self, lines: int = 1) -> Json:
        """Place an order that nobody has read."""
        answer = await self.customer.post_order(await self.basket(lines))
        assert answer.status == 201, answer
        return dict(answer.body)

    async def basket(self, lines: int) -> Json:
        """Return the body of an order of that many products."""
        more = [await self.admin.adds() for _ in range(lines - 1)]
        return basket(*[(product, 1) for product in [self.product, *more]])


Ask = Callable[[], Awaitable[Answer]]
Prepare = Callable[[Scene], Awaitable[Ask]]


@pytest.fixture(scope="module")
async def log(stack: Stack, api: Api) -> AsyncIterator[StatementLog]:
    """PostgreSQL's log, while it records every statement."""
    connection = await asyncpg.connect(stack.postgres.url)
    for name, value in LOGGING.items():
        await connection.execute(f"alter system set {name} = '{value}'")
    await connection.execute("select pg_reload_conf()")
    log = StatementLog(stack.postgres.log)
    # Each connection applies the new settings with its next statement.
    await eventually(lambda: log.cost_of(api.ask("GET", "/readyz")), lambda cost: cost != NOTHING)
    yield log
    for name in LOGGING:
        await connection.execute(f"alter system reset {name}")
    await connection.execute("select pg_reload_conf()")
    await connection.close()


@pytest.fixture(scope="module")
async def scene(
    api: Api, admin: Admin, new_customer: Any, environment: dict[str, str], rows: Rows
) -> Scene:
    """A customer with an account and a hundred orders, and a catalogue of as many products."""
    account = {"email": f"{uuid4()}@example.com", "password": "correct horse"}
    await api.ask("POST", "/api/auth/register", json=account)
    customer = new_customer()
    products = [await admin.adds(quantity=1000) for _ in range(101)]
    for product in products:
        order = await customer.admitted(product)
    # A connection's first statement makes asyncpg look up the types of its parameters.
    await customer.ask("POST", f"/api/orders/{order['id']}/cancel")
    secret = environment["STRIPE_WEBHOOK_SECRET"]
    return Scene(api, admin, customer, products[0], account, secret, rows)


def simply(method: str, path: str, **more: Any) -> Prepare:
    """A request that an administrator, or anyone, may send at any time."""

    async def prepare(scene: Scene) -> Ask:
        return lambda: scene.admin.ask(method, path, **more)

    return prepare


def listing(path: str, **query: Any) -> Prepare:
    """A request for a page of one of the customer's lists."""

    async def prepare(scene: Scene) -> Ask:
        return lambda: scene.customer.ask("GET", path, params=query)

    return prepare


async def registering(scene: Scene) -> Ask:
    account = {**scene.account, "email": f"{uuid4()}@example.com"}
    return lambda: scene.api.ask("POST", "/api/auth/register", json=account)


async def logging_in(scene: Scene) -> Ask:
    return lambda: scene.api.ask("POST", "/api/auth/login", json=scene.account)


async def adding_a_product(scene: Scene) -> Ask:
    return scene.admin.post_product


async def changing_a_product(scene: Scene) -> Ask:
    product = await scene.admin.adds()
    return lambda: scene.admin.change(product, price=1, addQuantity=1)


async def reading_a_new_product(scene: Scene) -> Ask:
    product = await scene.admin.adds()
    return lambda: scene.customer.ask("GET", f"/api/products/{product['id']}")


async def reporting(scene: Scene) -> Ask:
    """A report by Stripe of the payment of an unpaid order, not the first that is reported."""
    await (await one_report(scene))()  # A connection asks once what an array of texts is.
    return await one_report(scene)


async def one_report(scene: Scene) -> Ask:
    event = as_bytes(session_event(await scene.order(), amount_total=49900))
    headers = {"Stripe-Signature": signed(event, scene.stripe_secret)}
    return lambda: scene.api.ask("POST", "/api/stripe/webhook", event, headers=headers)


def placing(lines: int, **headers: Any) -> Prepare:
    async def prepare(scene: Scene) -> Ask:
        body = await scene.basket(lines)
        return lambda: scene.customer.post_order(body, **headers)

    return prepare


def with_order(method: str, path: str = "", lines: int = 1, **headers: str) -> Prepare:
    """A request that its owner may send for a new order."""

    async def prepare(scene: Scene) -> Ask:
        order = await scene.order(lines)
        address = f"/api/orders/{order['id']}{path}"
        return lambda: scene.customer.ask(method, address, headers=headers)

    return prepare


def with_parked(method: str, path: str = "", **body: Any) -> Prepare:
    """A request that an administrator may send for a parked message."""

    async def prepare(scene: Scene) -> Ask:
        address = f"/api/parked/{await scene.rows.park(await scene.order())}{path}"
        return lambda: scene.admin.ask(method, address, **({"json": body} if body else {}))

    return prepare


def a_key() -> dict[str, str]:
    """Return the header with an unused key."""
    return {"Idempotency-Key": str(uuid4())}


ONCE, IN_ONE_TRANSACTION = Cost(1), 1
OPERATIONS: dict[str, tuple[Prepare, Cost]] = {
    "front": (simply("GET", "/"), NOTHING),
    "openapi": (simply("GET", "/openapi.json"), NOTHING),
    "apiDocs": (simply("GET", "/v3/api-docs"), NOTHING),
    "asyncapi": (simply("GET", "/asyncapi.json"), NOTHING),
    "docs": (simply("GET", "/docs"), NOTHING),
    "swaggerUi": (simply("GET", "/swagger-ui/index.html"), NOTHING),
    "listProblems": (simply("GET", "/problems"), NOTHING),
    "getAsset": (simply("GET", "/assets/own/page.css"), NOTHING),
    "getProblem": (simply("GET", "/problems/not-found"), NOTHING),
    "console": (simply("GET", "/console"), NOTHING),
    "metrics": (simply("GET", "/metrics"), NOTHING),
    "livez": (simply("GET", "/livez"), NOTHING),
    "readyz": (simply("GET", "/readyz"), ONCE),
    "health": (simply("GET", "/health"), ONCE),
    "monitor": (simply("GET", "/api/monitor"), ONCE),
    "register": (registering, Cost(1, IN_ONE_TRANSACTION)),
    "login": (logging_in, ONCE),
    "whoAmI": (simply("GET", "/api/auth/me"), NOTHING),
    "profile": (simply("GET", "/api/auth/profile"), NOTHING),
    "addProduct": (adding_a_product, Cost(1, IN_ONE_TRANSACTION)),
    "changeProduct": (changing_a_product, Cost(1, IN_ONE_TRANSACTION)),
    "getProduct": (reading_a_new_product, ONCE),
    "listProducts": (listing("/api/products"), ONCE),
    "listProducts: one": (listing("/api/products", limit=1), ONCE),
    "listProducts: a hundred": (listing("/api/products", limit=100), ONCE),
    "listOrders": (listing("/api/orders"), ONCE),
    "listOrders: one": (listing("/api/orders", limit=1), ONCE),
    "listOrders: a hundred": (listing("/api/orders", limit=100), ONCE),
    "listAllOrders": (simply("GET", "/api/orders/admin"), ONCE),
    "listAllOrders: one": (simply("GET", "/api/orders/admin?limit=1"), ONCE),
    "listAllOrders: a hundred": (simply("GET", "/api/orders/admin?limit=100"), ONCE),
    "getOrder": (with_order("GET"), ONCE),
    "getOrder: of a hundred lines": (with_order("GET", lines=100), ONCE),
    "placeOrder": (placing(1), Cost(2)),
    "placeOrder: of a hundred lines": (placing(100), Cost(2)),
    "placeOrder: with a key": (placing(1, key=str(uuid4())), Cost(2)),
    "payOrder": (with_order("PATCH", "/pay"), Cost(2)),
    "payOrder: of a hundred lines": (
        with_order("PATCH", "/pay", lines=100),
        Cost(2),
    ),
    "payOrder: with a key": (
        with_order("PATCH", "/pay", **a_key()),
        Cost(2),
    ),
    "requestCheckout": (with_order("POST", "/payments/stripe"), Cost(4, IN_ONE_TRANSACTION)),
    "requestCheckout: with a key": (
        with_order("POST", "/payments/stripe", **a_key()),
        Cost(5, IN_ONE_TRANSACTION),
    ),
    "requestCheckout: of a hundred lines": (
        with_order("POST", "/payments/stripe", lines=100),
        Cost(4, IN_ONE_TRANSACTION),
    ),
    "getCheckout": (with_order("GET", "/payments/stripe"), ONCE),
    "takeStripeEvent": (reporting, Cost(8, IN_ONE_TRANSACTION)),
    "cancelOrder": (with_order("POST", "/cancel"), Cost(2, IN_ONE_TRANSACTION)),
    "cancelOrder: with a key": (
        with_order("POST", "/cancel", **a_key()),
        Cost(3, IN_ONE_TRANSACTION),
    ),
    "cancelOrder: of a hundred lines": (
        with_order("POST", "/cancel", lines=100),
        Cost(2, IN_ONE_TRANSACTION),
    ),
    "listOrderEvents": (with_order("GET", "/events"), Cost(2)),
    "listOrderEvents: of a hundred lines": (with_order("GET", "/events", lines=100), Cost(2)),
    "listParked": (simply("GET", "/api/parked"), ONCE),
    "listParked: of a handler": (simply("GET", "/api/parked?handler=stock.reserve"), ONCE),
    "listParked: of an order": (simply("GET", f"/api/parked?orderId={uuid4()}"), ONCE),
    "getParked": (with_parked("GET"), ONCE),
    "replayParked": (with_parked("POST", "/replay", reason="x", dryRun=False), Cost(6, 2)),
    "discardParked": (with_parked("POST", "/discard", reason="x"), Cost(6, 2)),
    "explainOrder": (with_order("GET", "/explain"), Cost(3)),
    "explainOrder: of a hundred lines": (with_order("GET", "/explain", lines=100), Cost(3)),
}
"""By operation, with what is special about the request: how to send it, and its cost."""


async def test_every_operation_is_counted(api: Api) -> None:
    paths = (await api.ask("GET", "/openapi.json")).body["paths"].values()
    names = {operation["operationId"] for methods in paths for operation in methods.values()}
    assert {name.partition(":")[0] for name in OPERATIONS} == names


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_operation_asks_postgresql_exactly_so_often(
    log: StatementLog, scene: Scene, operation: str
) -> None:
    prepare, cost = OPERATIONS[operation]
    ask = await prepare(scene)
    assert await log.cost_of(ask()) == cost


async def test_a_cached_order_and_product_cost_nothing(log: StatementLog, scene: Scene) -> None:
    order = await scene.order()
    for path in (f"/api/orders/{order['id']}", f"/api/products/{scene.product['id']}"):
        await eventually(
            lambda path=path: log.cost_of(scene.customer.ask("GET", path)),
            lambda cost: cost == NOTHING,
        )


async def test_a_replayed_creation_costs_nothing_once_its_event_was_read(
    log: StatementLog, scene: Scene
) -> None:
    body, key = await scene.basket(1), str(uuid4())
    assert await log.cost_of(scene.customer.post_order(body, key=key)) != NOTHING
    await eventually(
        lambda: log.cost_of(scene.customer.post_order(body, key=key)), lambda cost: cost == NOTHING
    )


async def test_a_replayed_payment_costs_two_statements(log: StatementLog, scene: Scene) -> None:
    order, key = await scene.order(), str(uuid4())
    await scene.customer.paid(order, key=key)
    again = scene.customer.pay(order, key=key)
    assert await log.cost_of(again) == Cost(2)
