"""Servers and Stripe, with a proxy on every path between them and the workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from devstack.kafka import Kafka
from devstack.ports import free_port
from devstack.stack import Stack
from devstack.stripe import Stripe
from tests.chaos.deployment import Deployment
from tests.chaos.proxy import Proxies, Proxy
from tests.conftest import SECRET
from tests.furnish import furnish
from tests.missing import NOT_DURABLE, skip

ORDER_TTL_SECONDS = 3600


class Town:
    """A deployment, and the proxies between its parts."""

    def __init__(self, deployment: Deployment, stripe: Stripe, ways: dict[str, Proxy]) -> None:
        self.deployment = deployment
        self.stripe = stripe
        self.ways = ways
        """The proxies by what is behind them: `database`, `broker`, `cache`, `stripe`."""


@contextmanager
def town(folder: Path) -> Iterator[Town]:
    """Start servers with schema, topics and catalogue, without a worker."""
    stack = Stack(folder)
    with Proxies() as proxies:
        ways = {
            "database": proxies.in_front_of(lambda: stack.postgres.port),
            "broker": proxies.in_front_of(lambda: stack.broker.port),
            "cache": proxies.in_front_of(lambda: stack.redis.port),
        }
        assert isinstance(stack.broker, Kafka)
        stack.broker.advertised_port = ways["broker"].port
        with stack:
            if not stack.broker.durable:
                skip(NOT_DURABLE)
            yield from _furnish(folder, stack, proxies, ways)


def _furnish(
    folder: Path, stack: Stack, proxies: Proxies, ways: dict[str, Proxy]
) -> Iterator[Town]:
    environment = {
        **stack.environment,
        "DB_URL": stack.postgres.url.replace(str(stack.postgres.port), str(ways["database"].port)),
        "REDIS_URL": stack.redis.url.replace(str(stack.redis.port), str(ways["cache"].port)),
        "KAFKA_BROKERS": f"127.0.0.1:{ways['broker'].port}",
        "JWT_SECRET": SECRET,
        "JWT_TTL_SECONDS": "86400",
        "ORDER_TTL_SECONDS": str(ORDER_TTL_SECONDS),
    }
    furnish(environment, catalogue=True)
    deployment = Deployment(stack, environment, folder)
    turns = count()

    def some_worker() -> int:
        """Return the port of a living worker, or an unused port if there is none."""
        alive = [worker.port for worker in deployment.workers if worker.alive]
        return alive[next(turns) % len(alive)] if alive else free_port()

    webhooks = proxies.in_front_of(some_worker)
    with Stripe(folder / "stripe", webhook_url=f"{_url(webhooks)}/api/stripe/webhook") as stripe:
        ways["stripe"] = proxies.in_front_of(lambda: stripe.port)
        environment |= {**stripe.worker_environment, "STRIPE_API_BASE": _url(ways["stripe"])}
        try:
            yield Town(deployment, stripe, ways)
        finally:
            deployment.close()


def _url(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port}"
