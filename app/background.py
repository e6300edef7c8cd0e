"""The background tasks and timers of a worker."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from math import nan
from typing import Any
from uuid import uuid4

from asyncpg import PostgresError

from app import admission, app, redis_cache, relay, settings, stripe_calls, timer_pool
from app.cache import ORDERS, PRODUCTS
from app.db.errors import AWAY
from app.db.queries import sql
from app.expiry import BATCH, expire_due
from app.mail import Mail, send_mails
from app.metrics import (
    FAILED_REFUNDS,
    FAILING_MAILS,
    OUTBOX_AGE,
    OUTBOX_AHEAD,
    OVERDUE_CALLS,
    POSTGRES_UP,
)
from app.operations.audit_timer import keep_auditing
from app.operations.outbox_months import drop_months, make_months
from app.parked import RETENTION
from app.resilience.quarantine import Quarantine
from app.resilience.redis_breaker import OPEN_SECONDS
from app.stripe.events import BATCH as KEPT_BATCH
from app.stripe.events import KEPT_FOR, settle_kept

REAP_SECONDS = 60.0
REAP_BATCH = 1000
PARTITION_SECONDS = 3600.0
EXPIRY_SECONDS = 1.0
KEPT_EVENTS_SECONDS, OLD_KEPT_EVENTS_SECONDS = 5.0, 60.0
LATELY = timedelta(hours=1)
"""How long kept events are looked at often. Older ones are mostly of other users of the account,
and may be very many."""
EVICT_RETRY_SECONDS = 5.0
GAUGE_SECONDS = 5.0
OVERDUE = timedelta(seconds=5)
"""How long after its due time a call of Stripe counts as overdue."""

LATEST_EVENTS, LATEST_PRODUCTS = 100_000, 1000
"""How far back evictions that a dead worker still owed may lie. The busiest workers write some
thousands of events a second, and a dead worker is noticed after ten seconds."""
_inheriting = asyncio.Event()
_expiry_quarantine = Quarantine()
_kept_events_quarantine = Quarantine()

COLLECTOR_THRESHOLDS = 50_000, 20, 20


@app.on_rebalance_complete.connect
async def count_waits_anew(*_: object, **__: object) -> None:
    """Count waits anew: events that waited during a rebalance are no sign of too many orders."""
    admission.resume()


@app.on_rebalance_complete.connect
async def inherit_evictions(*_: object, **__: object) -> None:
    """Start evicting for others: a worker that owed evictions may be gone."""
    _inheriting.set()


@app.task
async def evict_what_others_owed() -> None:
    """After a rebalance, evict cache entries that are older than recently changed rows."""
    while True:
        await _inheriting.wait()
        _inheriting.clear()
        try:
            await _evict_what_changed_lately()
        except (*AWAY, PostgresError) as error:
            app.log.warning("Evictions of others are made later: %r", error)
            _inheriting.set()
            await asyncio.sleep(EVICT_RETRY_SECONDS)


async def _evict_what_changed_lately() -> None:
    async with timer_pool.connection() as connection:
        orders = await sql.orders_changed_lately(connection, events=LATEST_EVENTS)
        products = await sql.products_changed_lately(connection, products=LATEST_PRODUCTS)
    for kind, rows in ((ORDERS, orders), (PRODUCTS, products)):
        await redis_cache.evict_older(kind, {row["id"]: row["version"] for row in rows})


@app.task
async def spare_the_collector() -> None:
    """Exclude existing objects from garbage collection, and collect less often than by default.

    By default Python collects after every 700 new objects, of which a batch of orders makes many
    more, and from time to time looks at all objects, while all orders wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


@app.task
async def relay_outbox() -> None:
    """Publish committed events while this worker leads."""
    await relay.run()


@app.task
async def send_mail() -> None:
    """Send the mails that agents have noted, if a mail server is configured."""
    if settings.smtp_url:
        mail = Mail(settings.smtp_url, settings.mail_from)
        await send_mails(timer_pool, mail, app.batch, lambda: app.should_stop)


@app.task
async def call_stripe() -> None:
    """Make the due calls of Stripe."""
    if settings.stripe_secret_key and not settings.stripe_webhook_secrets:
        app.log.warning("Webhooks of Stripe are refused: STRIPE_WEBHOOK_SECRET is not set")
    await stripe_calls.run()


@app.timer(KEPT_EVENTS_SECONDS)
async def settle_kept_events() -> None:
    """Retry events of Stripe that arrived lately, before the payment or order they refer to."""
    await _settle_kept(LATELY)


@app.timer(OLD_KEPT_EVENTS_SECONDS)
async def settle_old_kept_events() -> None:
    """Retry those that arrived earlier, too."""
    await _settle_kept(KEPT_FOR)


async def _settle_kept(kept_for: timedelta) -> None:
    settle = partial(settle_kept, timer_pool, str(uuid4()), _kept_events_quarantine, kept_for)
    with _or_later("Kept events are looked at"):
        while await settle() == KEPT_BATCH:
            pass


@app.timer(GAUGE_SECONDS)
async def count_what_waits() -> None:
    """Set the gauges of PostgreSQL, and of what waits there: events, calls, refunds, mails."""
    await _count_what_waits()


async def _count_what_waits() -> None:
    try:
        async with timer_pool.connection() as connection:
            OUTBOX_AGE.set(await sql.oldest_unsent_age(connection))
            waiting = await sql.calls_waiting(connection, patience=OVERDUE)
            failing = await sql.mails_failing(connection)
    except (*AWAY, PostgresError):
        POSTGRES_UP.set(0)
        # Alerts take the greatest number of all workers: an old one would outlast its cause.
        for gauge in (OUTBOX_AGE, OVERDUE_CALLS, FAILED_REFUNDS, FAILING_MAILS):
            gauge.set(nan)
        return
    POSTGRES_UP.set(1)
    OVERDUE_CALLS.set(waiting["overdue"])
    FAILED_REFUNDS.set(waiting["failed_refunds"])
    FAILING_MAILS.set(failing)


@app.task
async def audit_books() -> None:
    """Look for broken invariants, unless another worker does."""
    await keep_auditing(timer_pool)


@app.timer(OPEN_SECONDS)
async def settle_evictions() -> None:
    """Make the evictions that failed while Redis was unavailable."""
    await redis_cache.evict_owed()


@app.timer(EXPIRY_SECONDS)
async def expire_orders() -> None:
    """Cancel orders that were not paid in time."""
    with _or_later("Unpaid orders are cancelled"):
        await _expire_orders()


async def _expire_orders() -> None:
    # PostgreSQL's clock: a worker whose clock is ahead would cancel orders too early.
    async with timer_pool.connection() as connection:
        moment = await sql.clock(connection)
    while await expire_due(timer_pool, moment, quarantine=_expiry_quarantine) == BATCH:
        pass


@app.task
async def tend_outbox() -> None:
    """Create the outbox's next partitions, and drop the oldest, if all their events are sent."""
    # Not a timer: its first run would be after an hour, and a worker may not live that long.
    while True:
        try:
            await _tend_outbox()
        except (*AWAY, PostgresError) as error:
            # A role that may not create tables is no reason to stop: outbox_other gets the rows.
            app.log.warning("The outbox's partitions are tended to later: %r", error)
            await asyncio.sleep(REAP_SECONDS)
            continue
        await asyncio.sleep(PARTITION_SECONDS)


async def _tend_outbox() -> None:
    try:
        await make_months(timer_pool)
    finally:
        async with timer_pool.connection() as connection:
            OUTBOX_AHEAD.set(await sql.outbox_days_ahead(connection))
    if dropped := await drop_months(timer_pool, timedelta(days=settings.outbox_retention_days)):
        app.log.info("%d partitions of the outbox were dropped for their age", dropped)


@app.timer(REAP_SECONDS)
async def reap_parked_messages() -> None:
    """Delete parked messages that were resolved longer ago than RETENTION, in batches."""
    await _reap("Resolved messages", sql.reap_parked, kept=RETENTION)


@app.timer(REAP_SECONDS)
async def reap_idempotency_keys() -> None:
    """Delete expired idempotency keys, in batches."""
    await _reap("Expired keys", sql.reap_keys)


async def _reap(what: str, delete: Any, **bounds: Any) -> None:
    with _or_later(f"{what} are reaped"):
        async with timer_pool.connection() as connection:
            while await delete(connection, batch=REAP_BATCH, **bounds) == f"DELETE {REAP_BATCH}":
                pass


@contextmanager
def _or_later(what: str) -> Iterator[None]:
    """Log that a timer tries again: what PostgreSQL refuses of one row must not end all workers."""
    try:
        yield
    except (*AWAY, PostgresError) as error:
        tell = app.log.warning if isinstance(error, AWAY) else app.log.exception
        tell("%s later: %r", what, error)
