"""Prometheus metrics, in addition to those of Faust's own monitor."""

from math import nan

from prometheus_client import Counter, Gauge

DUPLICATES = Counter(
    "orders_duplicate_events_total",
    "Redelivered events that the changelog-backed table recognised.",
    ["handler"],
)
DEAD_LETTERS = Counter(
    "orders_dead_letters_total", "Messages that a handler could not take.", ["handler"]
)
HELD_BACK = Counter(
    "orders_held_back_total", "Messages parked behind an earlier one of their order.", ["handler"]
)
RETRIES = Counter(
    "orders_retries_total",
    "Retries of a handler: PostgreSQL or Kafka was away, or a batch took too long.",
    ["handler"],
)
WAIT = Gauge(
    "orders_event_wait_seconds",
    "How long the first of the latest events had waited for its handler or the relay, or the"
    " first of the latest requests to pay for its turn.",
    ["handler"],
)
ADMITTED = Gauge(
    "orders_admitted_per_second",
    "New orders that this worker would take; a million while it takes all.",
)
PUBLISHED = Counter(
    "orders_published_total",
    "Events that the broker acknowledged and that are marked as published.",
    ["topic"],
)
REFUSED = Counter(
    "orders_refused_events_total", "Events that the broker refused for good.", ["topic"]
)
REPLAYS = Counter(
    "orders_idempotent_replays_total",
    "Requests answered as the first one with their Idempotency-Key, by where the answer was.",
    ["source"],
)
CACHE = Counter(
    "orders_cache_total",
    "Lookups by kind and outcome; kind redis, outcome away: Redis did not answer.",
    ["kind", "outcome"],
)
RATE_LIMITED = Counter(
    "orders_rate_limited_total", "Requests refused for their rate, by what was counted.", ["limit"]
)
FAILED_LOGINS = Counter("orders_failed_logins_total", "Logins with a wrong email or password.")
WEBHOOKS = Counter(
    "orders_webhooks_total",
    "Events of Stripe, by what became of them; missed: found by asking Stripe instead.",
    ["outcome"],
)
OVERDUE_CALLS = Gauge(
    "orders_provider_calls_overdue",
    "Calls of Stripe, of all workers, that were tried in vain or that nobody made in time.",
)
POSTGRES_UP = Gauge(
    "orders_postgres_up",
    "1 while PostgreSQL answers this worker, otherwise 0; NaN until it was asked.",
)
OUTBOX_AGE = Gauge(
    "orders_outbox_oldest_seconds",
    "The age of the oldest event that waits to be sent, of all workers; 0 if none waits.",
)
OUTBOX_AHEAD = Gauge(
    "orders_outbox_days_ahead",
    "Days until the last month that the outbox has a partition for ends, as this worker saw it.",
)
FAILED_REFUNDS = Gauge(
    "orders_failed_refunds", "Payments whose refund failed for good: an operator has to act."
)
FAILING_MAILS = Gauge(
    "orders_mails_failing",
    "Mails, of all workers, that failed twice or were given up within a day; not refused ones.",
)
AUDIT_FINDINGS = Gauge(
    "orders_audit_findings",
    "Violations of each invariant, as last seen by the worker that audits; absent on all others.",
    ["invariant"],
)
AUDIT_UNFINISHED = Gauge(
    "orders_audit_unfinished", "Invariants that the last audit had no time to finish."
)
AUDIT_TIME = Gauge("orders_audit_timestamp_seconds", "When this worker last finished an audit.")

# Shown as 0 from the start, so that an alert sees the first rise.
CACHE.labels("redis", "away")
WEBHOOKS.labels("refused")
WEBHOOKS.labels("missed")

# Else a worker that crashes right after each start would call PostgreSQL away.
POSTGRES_UP.set(nan)
