"""The stand-in as a devstack server."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from devstack.server import Server, answers_http


class Stripe(Server):
    """Stripe's stand-in, sending webhooks to `webhook_url`; it loses its state when it stops."""

    name = "Stripe's stand-in"
    durable = False

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        log: Path | None = None,
        *,
        webhook_url: str,
        webhook_secret: str = "whsec_stand_in",
    ) -> None:
        super().__init__(folder, port, log)
        self._webhook_url = webhook_url
        self._keys = {
            "STRIPE_SECRET_KEY": "sk_test_stand_in",
            "STRIPE_WEBHOOK_SECRET": webhook_secret,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker_environment(self) -> dict[str, str]:
        """The variables with which a worker uses the stand-in as Stripe."""
        return {**self._keys, "STRIPE_API_BASE": self.url}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "devstack.stripe", str(self.port), self._webhook_url]

    def environment(self) -> Mapping[str, str]:
        # The working folder is that of the tests or of `make run`, which may be any.
        checkout = str(Path(__file__).parents[2])
        return {**os.environ, **self._keys, "PYTHONPATH": checkout}

    def answers(self) -> bool:
        return answers_http(self.port, "/_control")
