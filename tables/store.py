"""What a table keeps on the worker's disk: one RocksDB store for each of its partitions."""

import logging
import shutil
from pathlib import Path
from typing import Any, cast

from faust.stores.rocksdb import RocksDBOptions
from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Rdict,
    ReadOptions,
)

log = logging.getLogger(__name__)

TTL_SECONDS = 7 * 24 * 3600
"""How long RocksDB keeps an entry: as long as the changelog keeps its records."""

COMPACTION_SECONDS = 24 * 3600
"""How old a file may grow before RocksDB rewrites it, without the entries whose time is over.
RocksDB's own thirty days would let an entry stay for five weeks."""

CACHE = 16 * 1024**2
"""Bytes of a table's block cache, which all its partitions share; Faust gives 2 GiB to each."""

BUFFERS = 2
BUFFER_MEMORY = 32 * 1024**2
"""Bytes of a table's write buffers, of which each partition has BUFFERS; Faust gives 192 MiB to
each."""

FILTER_BITS = 10
"""Bits of the Bloom filters for each entry. What is looked up is nearly always new: one in a
hundred look-ups reads a block in vain, with Faust's three bits one in four."""


class StoreOptions(RocksDBOptions):
    """Faust's options of RocksDB, with memory that is bounded, also for a store that exists.

    All stores that are opened with one instance share its cache. Indexes and filters grow with the
    entries; they count into the cache, and are read in parts, as a whole one would fill it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._blocks = BlockBasedOptions()
        self._blocks.set_block_cache(Cache(self.block_cache_size))
        self._blocks.set_cache_index_and_filter_blocks(True)
        self._blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
        self._blocks.set_bloom_filter(self.bloom_filter_size, block_based=False)
        self._blocks.set_partition_filters(True)

    def as_options(self) -> Any:
        """Return the options as rocksdict's."""
        options = super().as_options()
        options.set_block_based_table_factory(self._blocks)
        return options

    def open(self, path: Path, *, read_only: bool = False) -> Any:
        """Open the store; one that is broken is deleted, and recovered from its changelog."""
        try:
            return self._open(path)
        except Exception as error:  # rocksdict raises nothing more specific
            if not str(error).startswith("Corruption"):
                raise
            log.error("%s is broken, and is made anew from its changelog: %s", path, error)
            shutil.rmtree(path)
            return self._open(path)

    def _open(self, path: Path) -> Any:
        # rocksdict opens a store that exists with the options that it was made with, and without
        # others, such as the size of the cache, unless they are given by column family.
        store = Rdict(
            str(path),
            options=self.as_options(),
            column_families={"default": self.as_options()},
            access_type=AccessType.with_ttl(cast(int, self.ttl)),
        )
        store.set_read_options(ReadOptions())
        store.set_options({"periodic_compaction_seconds": str(COMPACTION_SECONDS)})
        return store


def options_for(partitions: int) -> dict[str, int]:
    """Return the options of a table with so many partitions on one worker."""
    return {
        "block_cache_size": CACHE,
        "bloom_filter_size": FILTER_BITS,
        "write_buffer_size": BUFFER_MEMORY // BUFFERS // partitions,
        "max_write_buffer_number": BUFFERS,
        "ttl": TTL_SECONDS,
    }
