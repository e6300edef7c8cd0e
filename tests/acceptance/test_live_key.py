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
    connection = await asyncpg.connect(environment["DB_URL"])
    query = "select event_id, kind from provider_events where payload is not null"
    kinds = {row["event_id"]: row["kind"] for row in await connection.fetch(query)}
    await connection.close()
    assert kinds == {play["id"]: None, real["id"]: "captured"}
    assert f"Event {play['id']} of Stripe's test mode changes nothing" in log.read_text()
