"""The limit: what the same SQL and messages cost without Faust, aiohttp and rules.

Every statement is the service's own, taken from `app/sql` by its name; every message has the
service's topics, keys, headers and fields. Requests share transactions as the service's do. Each
handler commits its own batches, while the service lets handlers share a transaction. The auditor,
which knows nothing of this, must find the books in order. What is left out: HTTP, validation,
Records, tables in RocksDB, Redis, metrics, logs, and everything that lets a hop survive a failure.
"""
