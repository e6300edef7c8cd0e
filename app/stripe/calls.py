"""The calls of Stripe: taken when they are due, made with nothing held, their answers committed.

A call is taken for a while (`due_at` moves on), made, and its answer is one more report. A crash in
between makes it once more, with the same idempotency key, and Stripe answers as it did before.
"""

import asyncio
import logging
import random
from contextlib import suppress
from datetime import timedelta
from typing import Any

from app.crashes import Point, crash_here
from app.db import AWAY, Database
from app.errors import ProviderAway
from app.logs import request_id
from app.queries import sql
from app.stripe.answers import Provider, work_of
from app.stripe.refunds import give_back
from app.stripe.sessions import close_session, open_session
from app.timeouts import move_on_after
from app.transaction import Transaction

log = logging.getLogger(__name__)

KINDS = {"session": open_session, "expire": close_session, "refund": give_back}
"""What makes each kind of call."""
AT_ONCE = 16
"""Calls of one worker under way."""
IDLE_SECONDS = 1.0
"""How long a call may wait that another worker has noted."""
LEASE = timedelta(seconds=30)
"""Longer than a call and its commit may take: after it, whoever took the call is taken for dead."""
FIRST_WAIT, MAX_WAIT = 0.5, 60.0


class Calls:
    """Makes the calls that are due, each by itself, so that a slow one holds up no other."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def after_commit(self, transaction: Transaction) -> None:
        """Look at once for what this worker has noted."""
        if transaction.calls:
            self._wake.set()

    async def run(self) -> None:
        """Make calls until cancelled; PostgreSQL that is away is waited for."""
        while True:
            self._wake.clear()
            try:
                await self.start_due()
            except AWAY as error:
                log.warning("Calls of Stripe wait: %r", error)
            async with move_on_after(IDLE_SECONDS):
                await self._wake.wait()

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Start as many of the due calls as may be under way; those started. Raises one of AWAY."""
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
        """Make one call. Whatever goes wrong, it is made again, later."""
        request_id.set(call["request_id"])
        crash_here(Point.TAKEN, work_of(call))
        try:
            await KINDS[call["kind"]](self._database, self._provider, call)
        except ProviderAway as error:
            await self._postpone(call, str(error))
        except AWAY as error:
            log.warning("The answer to a %s call is asked for again: %r", call["kind"], error)
        except Exception:
            log.exception("A %s call for order %s failed", call["kind"], call["order_id"])

    async def _postpone(self, call: Any, failure: str) -> None:
        wait = backoff(call["attempts"])
        log.warning("Stripe is away; the %s call waits %.1f s: %s", call["kind"], wait, failure)
        # Where PostgreSQL is away too, the call waits for its lease.
        with suppress(*AWAY):
            async with self._database.connection() as connection:
                await sql.postpone_call(
                    connection,
                    kind=call["kind"],
                    subject_id=call["subject_id"],
                    wait=timedelta(seconds=wait),
                    failure=failure[:500],
                )


def backoff(attempts: int) -> float:
    """Seconds before the next attempt: doubled each time, and scattered over the upper half."""
    wait = min(FIRST_WAIT * 2.0 ** min(attempts - 1, 10), MAX_WAIT)
    return wait * random.uniform(0.5, 1)
