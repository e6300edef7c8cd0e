"""The composition root: one Faust app and what it works with, made once, without I/O."""

from app.broker import OrderApp
from app.cache import Cache
from app.config import load_settings
from app.db import Database
from app.outbox import Relay
from app.timeline import Followers
from app.tokens import Tokens

PIPELINE_POOL_SIZE = 12
"""One connection for each agent: requests have a pool of their own and cannot starve the agents."""

settings = load_settings()
app = OrderApp(settings)
database = Database(settings.database_dsn, settings.db_pool_size, "orders requests")
pipeline = Database(settings.database_dsn, PIPELINE_POOL_SIZE, "orders agents")
cache = Cache(settings.redis_url)
tokens = Tokens(settings.jwt_secret, settings.jwt_ttl_seconds)
relay = Relay(settings.kafka_brokers, pipeline)
app.resources += [database, pipeline, cache]
followers = Followers(database)
# Followers last: whoever hears of a change must not read the cache's old state.
database.after_commit = pipeline.after_commit = [
    relay.after_commit,
    cache.after_commit,
    followers.after_commit,
]

__all__ = ["app", "cache", "database", "followers", "pipeline", "relay", "settings", "tokens"]
