"""How the tables are stored on a worker's disk."""

from typing import Any

from faust.types import TableT

from app import app

TTL_SECONDS = 7 * 24 * 3600
"""As long as the changelog keeps its records."""

OPTIONS = {
    "block_cache_size": 8 * 1024**2,
    "write_buffer_size": 4 * 1024**2,
    "max_write_buffer_number": 2,
    "ttl": TTL_SECONDS,
}
"""RocksDB's, for each partition. Faust's own are 2 GiB of block cache and 192 MiB of buffers."""


def table(name: str, help: str) -> TableT[Any, Any]:
    """A changelog-backed table of JSON values, spread over the topics' partitions."""
    return app.Table(
        name,
        key_type=str,
        help=help,
        partitions=app.conf.topic_partitions,
        options=dict(OPTIONS),
    )
