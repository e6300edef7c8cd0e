"""A measured window: what it costs from its begin to its end, and what happened in between."""

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
    """Between `begin` and `end` (`time.monotonic`)."""

    begin: float = 0.0
    end: float = 0.0
    skew: float = 0.0
    """To be added to `time.monotonic` for the clock of PostgreSQL, which is this machine's."""
    before: dict[str, Cost] = field(default_factory=dict)
    after: dict[str, Cost] = field(default_factory=dict)

    def holds(self, moment: float) -> bool:
        """Whether the moment is inside."""
        return self.begin <= moment < self.end


async def measure(
    shop: Shop, drive: Drive, warm_up: float, seconds: float, programs: dict[str, list[int]]
) -> Window:
    """Drive for `warm_up` and then `seconds`, the latter measured, and wait for the rest."""
    programs = {**programs, "load": [os.getpid()]}
    window = Window(skew=time.time() - monotonic())
    async with drive(shop):
        await asyncio.sleep(warm_up)
        window.before, window.begin = costs(programs), monotonic()
        await asyncio.sleep(seconds)
        window.end, window.after = monotonic(), costs(programs)
    return window


async def notified(database: str, shop: Shop, window: Window) -> dict[bytes, float]:
    """When (`time.monotonic`) the customers of completed orders were told, by order id."""
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
