"""A measured window: its costs from begin to end, and what happened within."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from time import monotonic

import asyncpg

from bench.costs import Cost, costs
from bench.loops import PATIENCE_SECONDS, Drive
from bench.visits import Shop

NOTIFIED = """
    select order_id::text, extract(epoch from sent_at)::float8 from notifications
    where kind = 'completed' and channel = 'log' and sent_at >= to_timestamp($1)
"""


@dataclass
class Window:
    """The window between `begin` and `end` (`time.monotonic`)."""

    begin: float = 0.0
    end: float = 0.0
    skew: float = 0.0
    """Added to `time.monotonic` it gives PostgreSQL's time, on the same machine."""
    before: dict[str, Cost] = field(default_factory=dict)
    after: dict[str, Cost] = field(default_factory=dict)

    def holds(self, moment: float) -> bool:
        """Return whether the moment is inside."""
        return self.begin <= moment < self.end


async def measure(
    shop: Shop, drive: Drive, warm_up: float, seconds: float, programs: dict[str, list[int]]
) -> Window:
    """Drive load for `warm_up` and then for the measured `seconds`, and wait for the rest."""
    programs = {**programs, "load": [os.getpid()]}
    window = Window(skew=time.time() - monotonic())
    async with drive(shop):
        await asyncio.sleep(warm_up)
        window.before, window.begin = costs(programs), monotonic()
        await asyncio.sleep(seconds)
        window.end, window.after = monotonic(), costs(programs)
    return window


async def notified(database: str, shop: Shop, window: Window) -> dict[bytes, float]:
    """Return when (`time.monotonic`) each customer was notified of completion, by order id."""
    connection = await asyncpg.connect(database)
    completed = {visit.order_id for visit in shop.visits if visit.completed}
    began = min((visit.place_due for visit in shop.visits), default=window.begin)
    deadline = monotonic() + PATIENCE_SECONDS
    try:
        while True:
            rows = await connection.fetch(NOTIFIED, began + window.skew)
            told = {row[0].encode(): row[1] - window.skew for row in rows}
            if completed <= told.keys() or monotonic() > deadline:
                return told
            await asyncio.sleep(0.2)
    finally:
        await connection.close()
