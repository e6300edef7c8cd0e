"""What a worker does besides serving requests and events."""

from faust.sensors.prometheus import setup_prometheus_sensors

from app import app, cache, database, relay
from app.cache import REST_SECONDS
from app.db import AWAY, sql

REAP_SECONDS = 60.0
REAP_BATCH = 1000

setup_prometheus_sensors(app, pattern="/metrics", name_prefix="faust")


@app.task
async def relay_outbox() -> None:
    """Publish committed events while this worker leads."""
    await relay.run()


@app.timer(REST_SECONDS)
async def settle_evictions() -> None:
    """Evict what could not be evicted while Redis was away."""
    await cache.settle()


@app.timer(REAP_SECONDS)
async def reap_idempotency_keys() -> None:
    """Forget a batch of expired Idempotency-Keys."""
    try:
        async with database.connection() as connection:
            await sql.reap_keys(connection, batch=REAP_BATCH)
    except AWAY:
        app.log.warning("PostgreSQL is away: expired keys are reaped later")
