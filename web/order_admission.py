"""New orders: which are admitted, and how those that arrive together share a transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from app import admission, idempotency, orders, request_batch_pool, request_pool
from app.errors import Overloaded
from app.gathering import Gathering

MAX_CONCURRENT = 64
"""Creations in progress in this worker: with more, new orders would delay accepted ones."""
MAX_LET_IN = 264
"""Creations in progress or waiting: a burst waits for its turn, sustained overload is refused."""
_under_way = asyncio.Semaphore(MAX_CONCURRENT)
_let_in = asyncio.Semaphore(MAX_LET_IN)

_placings = Gathering(
    partial(orders.place_together, request_batch_pool), partial(orders.place, request_pool)
)
_recalls = Gathering(
    partial(idempotency.recall_together, request_pool), partial(idempotency.recall, request_pool)
)


@asynccontextmanager
async def _turn() -> AsyncIterator[None]:
    """Wait for a turn to create an order.

    Raises Overloaded if too many wait already, or admission control refuses the order.
    """
    if _let_in.locked() or not admission.try_admit():
        raise Overloaded
    async with _let_in, _under_way:
        yield


async def place(wanted: orders.Placing) -> tuple[dict[str, Any], bool]:
    """Place the order; return it, and whether it was placed before.

    Under overload, the replay of an earlier creation is still answered, as it adds no order.
    """
    try:
        async with _turn():
            return await _placings.do(wanted)
    except Overloaded:
        # Look-ups share transactions, because under overload there may be very many.
        recalled = await _recalls.do(wanted.key) if wanted.key else None
        if recalled is None or recalled.answer is None:
            raise
        return recalled.answer, True
