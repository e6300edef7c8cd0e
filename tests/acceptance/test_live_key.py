"""A worker whose key of Stripe is live takes no play money."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from devstack.ports import free_port
from devstack.stack import Stack
from devstack.worker import Worker
from tests.acceptance.client import Api
from tests.acceptance.customer import Admin, Customer
from tests.acceptance.problems import slug
from tests.acceptance.stripe_stand_in import as_bytes, session_event, signed
from tests.acceptance.tokens import token
from tests.conftest import SECRET
from tests.furnish import furnish

TEST_SECRET, LIVE_SECRET = "whsec_of_test_mode", "whsec_of_live_mode"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a worker with a live key, which also knows a secret of test mode."""
    with Stack(tmp_path / "servers") as stack:
        environment = {
            **stack.environment,
            "JWT_SECRET": SECRET,
            "PORT": str(free_port()),
            "STRIPE_SECRET_KEY": "rk_live_of_nobody",
            "STRIPE_WEBHOOK_SECRET": f"{LIVE_SECRET},{TEST_SECRET}",
            "STRIPE_API_BASE": "http://127.0.0.1:1",
        }
        furnish(environment, catalogue=False)
        yield environment


async def assert_only_what_costs_nothing_is_paid_here(admin: Admin, customer: Customer) -> None:
    """Assert that the internal provider, which moves no money, pays nothing that has a price."""
    priced = await customer.placed(await admin.adds())
    free = await customer.placed(await admin.adds(price=0))
    assert slug(await customer.pay(priced)) == "pay-at-stripe"
    assert slug(await customer.pay(priced, key="a key")) == "pay-at-stripe"
    for order, actions in ((priced, ["checkout", "cancel"]), (free, ["pay", "cancel"])):
        answer = await customer.ask("GET", f"/api/orders/{order['id']}/explain")
        assert answer.body["actions"] == actions
    await customer.paid(free)
    await customer.wait_until(free, "COMPLETED")


async def test_an_order_is_paid_with_real_money_alone(
    environment: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    async with aiohttp.ClientSession() as session:
        with Worker(environment, tmp_path / "data", log) as worker:
            worker.wait_ready()
            api = Api(session, worker.url)
            admin = Admin(api, token(role="ADMIN"), str(uuid4()), "admin@example.com")
            customer = Customer(api, token(), str(uuid4()), None)
            order = await customer.placed(await admin.adds(), 2)
            play = session_event(order) | {"livemode": False}
            real = session_event(order) | {"livemode": True}
            for event, secret in ((play, TEST_SECRET), (real, LIVE_SECRET)):
                body = as_bytes(event)
                headers = {"Stripe-Signature": signed(body, secret)}
                answer = await api.ask("POST", "/api/stripe/webhook", body, headers=headers)
                assert answer.status == 200
            await customer.wait_until(order, "COMPLETED")
            await assert_only_what_costs_nothing_is_paid_here(admin, customer)
    connection = await asyncpg.connect(environment["DB_URL"])
    query = "select event_id, kind from provider_events where payload is not null"
    kinds = {row["event_id"]: row["kind"] for row in await connection.fetch(query)}
    await connection.close()
    assert kinds == {play["id"]: None, real["id"]: "captured"}
    assert f"Event {play['id']} of Stripe's test mode changes nothing" in log.read_text()
