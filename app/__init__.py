"""The composition root: creates the Faust app and the objects that it works with, once.

It reads the settings and the key files that they name, and opens no connections.
"""

import os

from app.cache import Cache
from app.config import load_settings
from app.crashes import arm_from
from app.db.pools import FEW_ROWS, SHORT_WAITS, AfterCommit, Database
from app.identity.token_keys import load_token_keys
from app.identity.tokens import Tokens
from app.kafka.broker_access import load_brokers
from app.kafka.faust_app import OrderApp
from app.kafka.monitor import new_monitor
from app.metrics import ADMITTED
from app.outbox.relay import Relay
from app.resilience.admission_control import Admission
from app.resilience.rate_limits import RateLimits
from app.stripe.api import UnconfiguredStripe
from app.stripe.calls import Calls
from app.stripe.client import StripeClient
from app.timeline import Followers

AGENT_POOL_SIZE = 12
"""For batches that are committed alone, for parking, and to notify the relay's leader.

Requests have a pool of their own, so they cannot starve the agents.
"""
REQUEST_BATCH_POOL_SIZE = 2
"""One connection for batches of new orders, and one for batches of payments."""
TIMER_POOL_SIZE = 4
"""For expiry, mail and calls of Stripe among others: requests and agents cannot hold them up."""

AUTODISCOVER = [
    "app.operations.commands",
    "app.operations.parked_command",
    "app.background",
    "tables.handled",
    "tables.replays",
    "agents.payment",
    "agents.checkout",
    "agents.inventory",
    "agents.order_status",
    "agents.notification",
    "web.http.middlewares",
    "web.http.protocol",
    "web.accounts",
    "web.products",
    "web.orders",
    "web.order_actions",
    "web.checkout",
    "web.stripe_webhook",
    "web.order_events",
    "web.parked",
    "web.health",
    "web.monitor",
    "web.assets",
    "web.documents",
    "web.problem_pages",
]
"""The modules of a worker.

Each is listed by name, because Faust stops the worker for an import error of a listed module only.
"""

arm_from(os.environ)
settings = load_settings()
brokers = load_brokers(settings)
app = OrderApp(settings, brokers, AUTODISCOVER)
app.monitor = monitor = new_monitor()
request_pool = Database(settings.database_dsn, settings.db_pool_size, "orders requests", **FEW_ROWS)
agent_pool = Database(settings.database_dsn, AGENT_POOL_SIZE, "orders agents", **FEW_ROWS)
request_batch_pool = Database(
    settings.database_dsn, REQUEST_BATCH_POOL_SIZE, "orders requests", **FEW_ROWS, **SHORT_WAITS
)
agent_batch_pool = Database(settings.database_dsn, 1, "orders agents", **FEW_ROWS, **SHORT_WAITS)
timer_pool = Database(settings.database_dsn, TIMER_POOL_SIZE, "orders timers")
# A worker whose requests all wait for locks can do its work once these are free.
health_pool = Database(settings.database_dsn, 1, "orders health")
redis_cache = Cache(settings.redis_url)
limiter = RateLimits(settings.redis_url, settings.auth_rate_limit, settings.login_failures_limit)
bearer_tokens = Tokens(
    load_token_keys(settings),
    settings.jwt_ttl_seconds,
    issuer=settings.jwt_issuer,
    audience=settings.jwt_audience,
)
stripe_api = (
    StripeClient(
        settings.stripe_secret_key, settings.stripe_api_base, *settings.checkout_return_urls
    )
    if settings.stripe_secret_key
    else UnconfiguredStripe()
)
admission = Admission()
ADMITTED.set_function(admission.rate)
relay = Relay(brokers, agent_pool, admission)
app.pools += [
    request_pool,
    request_batch_pool,
    agent_pool,
    agent_batch_pool,
    timer_pool,
    health_pool,
]
app.resources += [redis_cache, limiter, stripe_api]
stripe_calls = Calls(timer_pool, stripe_api)
followers = Followers(request_pool, redis_cache)
# Followers last: clients that are told of a change must not read the old state from the cache.
after_commit: list[AfterCommit] = [
    resource.after_commit for resource in (relay, stripe_calls, redis_cache, followers)
]
for pool in app.pools:
    pool.after_commit = after_commit
    # A pool that is not used while the primary is replaced learns of it from the others.
    pool.hosts = request_pool.hosts
