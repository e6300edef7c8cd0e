"""Signed webhooks, retried until they are accepted: https://docs.stripe.com/webhooks."""

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from devstack.stripe.objects import Object, now

log = logging.getLogger(__name__)

FIRST_WAIT, MAX_WAIT = 0.2, 10.0
PATIENCE = aiohttp.ClientTimeout(total=20)


def signature(body: bytes, secrets: Sequence[str], moment: int) -> str:
    """Return the header Stripe-Signature, with a `v1` for each secret."""
    signed = f"{moment}.".encode() + body
    made = (hmac.new(one.encode(), signed, hashlib.sha256).hexdigest() for one in secrets)
    return ",".join([f"t={moment}", *(f"v1={one}" for one in made)])


@dataclass
class Delivery:
    """One event, and the HTTP statuses that answered it; 0 means no answer."""

    event: Object
    held: bool = False
    answers: list[int] = field(default_factory=list)

    @property
    def told(self) -> Object:
        """The delivery as the control API shows it."""
        told = {"id": self.event["id"], "type": self.event["type"], "held": self.held}
        return {**told, "answers": self.answers}


class Webhooks:
    """Sends events to `url`. Held ones are sent only by `deliver`."""

    def __init__(self, url: str, secrets: Sequence[str]) -> None:
        self.url = url
        self._secrets = secrets
        self.hold = False
        self.copies = 1
        self.deliveries: dict[str, Delivery] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: aiohttp.ClientSession | None = None

    def tell(self, event: Object) -> None:
        """Send `copies` copies of an event, or hold it while `hold` is set."""
        delivery = Delivery(event, held=self.hold)
        self.deliveries[event["id"]] = delivery
        if not self.hold:
            for _ in range(self.copies):
                self._start(delivery)

    async def deliver(self, ids: Sequence[str]) -> list[int]:
        """Send these events one by one and return the answers; those not accepted are retried."""
        answers = []
        for id in ids:
            delivery = self.deliveries[id]
            delivery.held = False
            answers.append(await self._send(delivery))
            if not _taken(answers[-1]):
                self._start(delivery)
        return answers

    def held(self) -> list[str]:
        """Return the ids of held events, oldest first."""
        return [id for id, delivery in self.deliveries.items() if delivery.held]

    async def close(self) -> None:
        """Stop sending."""
        for task in self._tasks:
            task.cancel()
        if self._client:
            await self._client.close()

    def _start(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._insist(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _insist(self, delivery: Delivery) -> None:
        wait = FIRST_WAIT
        while not _taken(await self._send(delivery)):
            await asyncio.sleep(wait)
            wait = min(wait * 2, MAX_WAIT)

    async def _send(self, delivery: Delivery) -> int:
        body = json.dumps(delivery.event, indent=2).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, self._secrets, now()),
        }
        self._client = self._client or aiohttp.ClientSession(timeout=PATIENCE)
        try:
            async with self._client.post(self.url, data=body, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = 0
        delivery.answers.append(status)
        log.info("%s %s: %s", delivery.event["type"], delivery.event["id"], status or "no answer")
        return status


def _taken(status: int) -> bool:
    return 200 <= status < 300
