"""The limit: what the same SQL and the same messages cost without Faust, aiohttp and rules.

Every statement is the service's own, taken from `app/sql` by its name; every message has the
service's topics, keys, headers and fields. Requests share transactions as the service's do. Each
handler commits its batches for itself, while the service lets handlers share a transaction. The
auditor, who knows nothing of this, must find the books of it in order. What is left out: HTTP,
validation, Records, tables in RocksDB, Redis, metrics, logs, and whatever makes a hop survive.
"""
