"""What operators and load balancers see."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.client import Api, eventually
from tests.acceptance.conftest import Metric
from tests.acceptance.customer import Customer


async def test_a_worker_in_health_says_so(api: Api) -> None:
    answer = await api.ask("GET", "/health")
    assert (answer.status, answer.body["status"]) == (200, "UP")
    moment = datetime.fromisoformat(answer.body["timestamp"])
    assert answer.body["timestamp"].endswith("Z")
    assert moment <= datetime.now(UTC)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_worker_is_alive_and_ready(api: Api, path: str) -> None:
    answer = await api.ask("GET", path)
    assert (answer.status, answer.body) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/livez?verbose", "/readyz?verbose", "/readyz?verbose=true"])
async def test_a_worker_tells_its_checks_where_asked(api: Api, path: str) -> None:
    answer = await api.ask("GET", path)
    assert answer.status == 200
    assert answer.body["checks"]
    assert all(check is True for check in answer.body["checks"].values())


async def test_metrics_are_prometheus_text(api: Api) -> None:
    answer = await api.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "# TYPE orders_cache_total counter" in answer.body


async def test_published_events_are_counted(
    customer: Customer, product: dict[str, Any], metric: Metric
) -> None:
    async def published() -> float:
        return await metric("orders_published_total", topic="order.completed")

    before = await published()
    await customer.buys(product)
    await eventually(published, lambda now: now == before + 1)


async def test_the_log_tells_which_request_a_notification_goes_back_to(
    customer: Customer, product: dict[str, Any], logged: Callable[[str], Awaitable[list[str]]]
) -> None:
    request_id = f"paid-{uuid4()}"
    order = await customer.buys(product, request_id=request_id)
    (line,) = await logged(f"Sending notification for completed order {order['id']}")
    assert request_id in line


async def test_the_front_page_tells_what_this_is(api: Api) -> None:
    answer = await api.ask("GET", "/")
    assert answer.status == 200
    assert answer.body["name"] and answer.body["version"]
    for link in answer.body["links"].values():
        assert (await api.ask("GET", link)).status == 200


@pytest.mark.parametrize("path", ["/router/", "/table/", "/graph", "/stats", "/performance/"])
async def test_faust_shows_no_data_and_no_topology(api: Api, path: str) -> None:
    assert (await api.ask("GET", path)).status == 404
