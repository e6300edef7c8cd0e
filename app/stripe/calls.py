"""Make the due calls to Stripe, and commit their answers.

A call is claimed with a lease (`due_at` moves on) and made without holding a lock or connection;
its answer is one more report. After a crash in between, it is made again with the same idempotency
key, and Stripe gives the same answer.
"""

import asyncio
import logging
import random
from contextlib import suppress
from datetime import timedelta
from typing import Any

from app.crashes import Point, crash_here
from app.db.errors import AWAY
from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.logs import request_id
from app.resilience.timeouts import move_on_after
from app.stripe.answers import work_of
from app.stripe.api import StripeApi
from app.stripe.errors import ProviderAway
from app.stripe.refunds import make_refund
from app.stripe.sessions import close_session, open_session
from app.text import storable_error

log = logging.getLogger(__name__)

KINDS = {"session": open_session, "expire": close_session, "refund": make_refund}
"""The function that makes each kind of call."""
AT_ONCE = 16
"""The most calls that one worker has in flight."""
IDLE_SECONDS = 1.0
"""How often the worker polls for due calls, such as those that another worker has recorded."""
LEASE = timedelta(seconds=60)
"""Longer than a call and its commit may take: once it ends, any worker may claim the call."""
FIRST_WAIT, MAX_WAIT = 0.5, 60.0
"""The backoff's bounds, in seconds."""


class Calls:
    """Makes the due calls, each in a task of its own, so that a slow one does not delay others."""

    def __init__(self, database: Database, api: StripeApi) -> None:
        self._database = database
        self._api = api
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def after_commit(self, transaction: Transaction) -> None:
        """Wake `run` at once if the transaction has recorded calls."""
        if transaction.calls:
            self._wake.set()

    async def run(self) -> None:
        """Make due calls until cancelled; retry while PostgreSQL is away."""
        while True:
            self._wake.clear()
            try:
                await self.start_due()
            except AWAY as error:
                log.warning("Calls of Stripe wait: %r", error)
            async with move_on_after(IDLE_SECONDS):
                await self._wake.wait()

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Start due calls, at most AT_ONCE in flight; return their tasks. Raises one of AWAY."""
        room = AT_ONCE - len(self._running)
        if not room:
            return []
        async with self._database.connection() as connection:
            rows = await sql.take_due_calls(connection, batch=room, lease=LEASE)
        started = [asyncio.create_task(self._make(row)) for row in rows]
        self._running |= set(started)
        for task in started:
            task.add_done_callback(self._finished)
        return started

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _make(self, call: Any) -> None:
        """Make one call; whatever fails, it is made again later."""
        request_id.set(call["request_id"])
        crash_here(Point.TAKEN, work_of(call))
        try:
            await KINDS[call["kind"]](self._database, self._api, call)
        except ProviderAway as error:
            await self._postpone(call, str(error))
        except AWAY as error:
            log.warning("The answer to a %s call is asked for again: %r", call["kind"], error)
        except Exception:
            log.exception("A %s call for order %s failed", call["kind"], call["order_id"])

    async def _postpone(self, call: Any, failure: str) -> None:
        wait = backoff(call["attempts"])
        log.warning("Stripe is away; the %s call waits %.1f s: %s", call["kind"], wait, failure)
        # If PostgreSQL is away too, the call is due again when its lease ends.
        with suppress(*AWAY):
            async with self._database.connection() as connection:
                await sql.postpone_call(
                    connection,
                    kind=call["kind"],
                    subject_id=call["subject_id"],
                    wait=timedelta(seconds=wait),
                    failure=storable_error(failure),
                )


def backoff(attempts: int) -> float:
    """Return the seconds before the next attempt: exponential, with jitter over the upper half."""
    wait = min(FIRST_WAIT * 2.0 ** min(attempts - 1, 10), MAX_WAIT)
    return wait * random.uniform(0.5, 1)
