"""What a worker does besides serving requests and events."""

from faust.sensors.prometheus import FaustMetrics, PrometheusMonitor
from prometheus_client import REGISTRY

from app import app, cache, relay, settings, timers
from app.cache import REST_SECONDS
from app.db import AWAY, sql
from app.expiry import BATCH, expire_due
from app.mail import Mail, send_mails
from app.times import now

REAP_SECONDS = 60.0
REAP_BATCH = 1000
EXPIRY_SECONDS = 1.0

app.monitor = PrometheusMonitor(metrics=FaustMetrics.create(REGISTRY, "faust"))


@app.task
async def relay_outbox() -> None:
    """Publish committed events while this worker leads."""
    await relay.run()


@app.task
async def send_mail() -> None:
    """Send the mails that agents have noted, where there is a mail server."""
    if settings.smtp_url:
        await send_mails(timers, Mail(settings.smtp_url, settings.mail_from))


@app.timer(REST_SECONDS)
async def settle_evictions() -> None:
    """Evict what could not be evicted while Redis was away."""
    await cache.settle()


@app.timer(EXPIRY_SECONDS)
async def expire_orders() -> None:
    """Cancel orders that were not paid in time."""
    try:
        while await expire_due(timers, now()) == BATCH:
            pass
    except AWAY as error:
        app.log.warning("Unpaid orders are cancelled later: %r", error)


@app.timer(REAP_SECONDS)
async def reap_idempotency_keys() -> None:
    """Forget expired Idempotency-Keys, batch by batch."""
    try:
        async with timers.connection() as connection:
            while await sql.reap_keys(connection, batch=REAP_BATCH) == f"DELETE {REAP_BATCH}":
                pass
    except AWAY:
        app.log.warning("PostgreSQL is away: expired keys are reaped later")
