"""`make run`: run the servers, the migrations and the worker until a signal comes."""

import logging
import shutil
import time
from pathlib import Path

from devstack.interrupt import Interrupted, pause
from devstack.keep import Kept
from devstack.ports import Ports
from devstack.process import Process
from devstack.screen import Screen
from devstack.server import Server, ServerFailed
from devstack.settings import (
    Refused,
    only_one,
    read_settings,
    secret,
    stripe_secret,
    tell_environment,
    web_port,
)
from devstack.stack import Stack
from devstack.stripe import Stripe
from devstack.worker import Worker, faust

STATE = ".devstack"


def run(checkout: Path) -> int:
    """Run until a signal comes; return 0 after a signal, 1 after printing a line with the error."""
    # Requests to a starting broker may fail.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    screen = Screen()
    try:
        settings = read_settings(checkout)
        with only_one(checkout / STATE), web_port(settings, screen.line) as port:
            Run(checkout, settings, port, screen).until_interrupted()
    except Interrupted:
        return 0
    except (Refused, ServerFailed) as reason:
        screen.line(str(reason))
        return 1
    return 0


class Run:
    """One run in one checkout; all its files are in `.devstack`."""

    def __init__(self, checkout: Path, settings: dict[str, str], port: int, screen: Screen) -> None:
        self._screen = screen
        self._checkout = checkout
        self._state = state = checkout / STATE
        self._stack = Stack(state, settings, screen.line)
        self._own = {**settings, **secret(settings, state), "PORT": str(port)}
        self._stripe = None if settings.get("STRIPE_SECRET_KEY") else self._stand_in(settings, port)
        self._worker: Worker | None = None

    def until_interrupted(self) -> None:
        """Start everything and keep it running; always end by stopping it all.

        Raises Interrupted, ServerFailed or Refused.
        """
        try:
            with self._screen.busy("starting PostgreSQL, Redis and Kafka"):
                self._stack.start()
                self._start_stripe()
            tell_environment(self._checkout, self._state, self._environment)
            for command in ("migrate", "demo-catalogue"):
                self._command(command)
            self._watch(self._start_worker())
        finally:
            self._stop()

    @property
    def _environment(self) -> dict[str, str]:
        stripe = self._stripe.worker_environment if self._stripe else {}
        return {**self._own, **self._stack.environment, **stripe}

    @property
    def _servers(self) -> list[Server]:
        return [*self._stack.servers, *([self._stripe] if self._stripe else [])]

    def _stand_in(self, settings: dict[str, str], port: int) -> Stripe:
        """Create the stand-in for Stripe, which sends its webhooks to the worker."""
        return Stripe(
            self._state / "stripe",
            Ports(self._state / "ports.json").of("stripe"),
            self._state / "logs" / "stripe.log",
            webhook_url=f"http://127.0.0.1:{port}/api/stripe/webhook",
            webhook_secret=stripe_secret(settings, self._state),
        )

    def _start_stripe(self) -> None:
        if self._stripe:
            self._stripe.start()
            ready = f"{self._stripe.name} ready on {self._stripe.url}"
            self._screen.line(f"{ready}; when it stops, it forgets checkouts that are open")

    def _command(self, name: str) -> None:
        """Run one of the application's commands to its end. Raises Refused if it fails."""
        process = Process(
            faust(name), self._state / "logs" / f"{name}.log", environment=self._environment
        )
        begun = time.monotonic()
        process.start()
        try:
            with self._screen.busy(name):
                while process.alive:
                    pause(0.05)
        finally:
            process.stop(5)
        if process.exit_code:
            raise Refused(f"{name} failed: {process.last_words()}")
        self._screen.line(f"{name} done in {time.monotonic() - begun:.1f} s")

    def _start_worker(self) -> Worker:
        datadir, log = self._state / "worker", self._state / "logs" / "worker.log"
        if not self._stack.broker.durable:
            # Its tables would continue changelogs that the broker has lost.
            shutil.rmtree(datadir, ignore_errors=True)
        worker = self._worker = Worker(self._environment, datadir, log)
        worker.start()
        self._screen.line(f"worker started; its log is {log}")
        return worker

    def _watch(self, worker: Worker) -> None:
        """Keep servers and worker running; print a line whenever the worker is ready again."""
        kept = [Kept(server, self._screen.line) for server in [*self._servers, worker]]
        ready, word = False, "ready"
        while True:
            pause(0.2)
            for one in kept:
                if one.tend():
                    ready = False
                    self._refill(one)
            if not ready and worker.alive and worker.answers():
                ready = True
                (self._state / "url").write_text(f"{worker.url}\n")
                self._screen.line(f"{word} {worker.url}")
                word = "ready again"

    def _refill(self, restarted: Kept) -> None:
        if restarted.server is self._stack.broker and not restarted.server.durable:
            self._command("migrate")

    def _stop(self) -> None:
        with self._screen.busy("stopping"):
            for told in ("url", "environment"):
                (self._state / told).unlink(missing_ok=True)
            if self._worker:
                self._worker.stop()
            if self._stripe:
                self._stripe.stop()
            self._stack.stop()
        self._screen.line("stopped")
