"""Run one worker after the other: a test arms each and leads it to the point where it dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from devstack.ports import free_port
from devstack.stack import Stack
from devstack.stripe import Stripe
from tests.acceptance.tokens import token
from tests.chaos.deployment import Deployment
from tests.chaos.forked_workers import Mortal, Nursery
from tests.chaos.load import Json, Load, at_the_counter
from tests.chaos.messages import forget_the_dead
from tests.chaos.waiting import until
from tests.conftest import SECRET, run, run_command
from tests.furnish import furnish
from tests.integration.mailbox import Mailbox, mail_server


class Stage:
    """A deployment with one worker, which is started again whenever it has died."""

    def __init__(
        self, deployment: Deployment, worker: Mortal, stripe: Stripe, mailbox: Mailbox
    ) -> None:
        self.deployment = deployment
        self.worker = worker
        self.stripe = stripe
        self.mailbox = mailbox
        self.load: Load
        self.database: asyncpg.Pool

    async def live(self, crash_point: str = "") -> None:
        """Start the next worker, armed from the beginning if a crash point is given."""
        if self.worker.pid:
            await forget_the_dead(self.deployment.brokers)
        self.worker.crash_point = crash_point
        self.worker.start()
        if not crash_point:
            await asyncio.to_thread(self.worker.wait_ready)

    async def again(self) -> None:
        """Kill the worker, and start the next one."""
        self.worker.kill()
        await self.live()

    async def arm(self, crash_point: str) -> None:
        """Let the worker die at that crash point."""
        armed = f"will kill itself at {crash_point}"
        told = self.worker.log.read_text().count(armed)
        self.worker.arm(crash_point)
        await until(
            lambda: self.worker.log.read_text().count(armed) > told, f"{crash_point} is armed", 10
        )

    async def dies_at(self, crash_point: str) -> None:
        """Wait until the worker dies, and assert that it died there."""
        await until(lambda: not self.worker.alive, f"the worker comes to {crash_point}", 30)
        assert self.worker.why_ended() == "killed by SIGKILL"
        last = self.worker.log.read_text().splitlines()[-1]
        assert last.endswith(f"This process kills itself at {crash_point}"), last

    async def command(self, *arguments: str, stdin: str = "") -> None:
        """Run `faust -A app …` to its end."""
        await asyncio.to_thread(run_command, self.deployment.environment, *arguments, stdin=stdin)

    async def command_dies_at(self, crash_point: str, *arguments: str, stdin: str = "") -> None:
        """Run `faust -A app …`, armed by its environment, and assert that it dies at that point."""
        environment = {
            **self.deployment.environment,
            "CRASH_AT": crash_point,
            "CRASH_FOR_TESTS": "yes",
        }
        done = await asyncio.to_thread(run, environment, arguments, stdin)
        assert done.returncode == -SIGKILL, done.stderr
        told = done.stdout + done.stderr
        assert f"This process kills itself at {crash_point}" in told, told

    async def hurry(self) -> None:
        """Make the calls and mails that dead workers had leased due at once."""
        await self.database.execute(
            "update provider_calls set due_at = now() where done_at is null"
        )
        await self.database.execute("update notifications set due_at = now() where sent_at is null")

    async def block(self, handler: str, order_id: str) -> UUID:
        """Park a message, so that the handler's later ones of the order wait; return its id."""
        return UUID(str(await self.database.fetchval(BLOCKER, handler, order_id, str(uuid4()))))

    async def waiting(self, order_id: str) -> list[Any]:
        """Return the order's unresolved messages: parked ones and ones that wait behind them."""
        return list(await self.database.fetch(WAITING, order_id))

    async def administer(self, method: str, path: str, statuses: set[int], body: Json) -> Json:
        """Send a request as an administrator until it is answered."""
        request: dict[str, Any] = {"token": token(role="ADMIN"), "json": body}
        return await self.load.client.expect(statuses, method, path, **request)

    async def discard(self, parked_id: UUID) -> None:
        """Discard a parked message, so that what waits behind it goes on."""
        path, body = f"/api/parked/{parked_id}/discard", {"reason": "chaos"}
        await self.administer("POST", path, {200, 409}, body)

    async def limit(self, topic: str, size: int) -> None:
        """Limit the topic's messages to `size` bytes."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.deployment.brokers)
        await admin.start()
        resource = ConfigResource(
            ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(size)}
        )
        try:
            await admin.alter_configs([resource])
        finally:
            await admin.close()


BLOCKER = """
    insert into parked_messages (
        handler, topic, partition, "offset", order_id, state, holds_order, key, value, headers,
        error, attempts, parked_at
    )
    values ($1, $3, 0, 0, $2, 'PARKED', true, null, null, '{}', 'chaos', 1, now())
    returning id
"""
WAITING = """
    select id, handler, state from parked_messages
    where order_id = $1 and resolved_at is null order by position
"""


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Start all servers and the first worker, and log a customer in."""
    port = free_port()
    webhooks = f"http://127.0.0.1:{port}/api/stripe/webhook"
    with (
        Stack(folder) as stack,
        mail_server() as (mailbox, smtp_url),
        Stripe(folder / "stripe", webhook_url=webhooks) as stripe,
    ):
        environment = {**stack.environment, **stripe.worker_environment, "JWT_SECRET": SECRET}
        environment |= {"PORT": str(port), "SMTP_URL": smtp_url, "AUTH_RATE_LIMIT": "10000/minute"}
        furnish(environment, catalogue=True)
        nursery = Nursery(environment, folder / "data", folder / "nursery.log")
        worker = Mortal(nursery, environment, folder / "data", folder / "worker.log")
        deployment = Deployment(stack, environment, folder)
        deployment.workers = [worker]
        try:
            play = Stage(deployment, worker, stripe, mailbox)
            await play.live()
            async with (
                asyncpg.create_pool(deployment.database, min_size=1) as play.database,
                at_the_counter(deployment, patience_seconds=3600) as play.load,
            ):
                play.load.longest_wait = 0.1
                # Without an email: a mail may wait for a second.
                play.load.token = token()
                yield play
        finally:
            nursery.close()
