"""Batches of orders and payments that arrive at once, as the service batches them."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from app import payments, placing
from app.db.batching import Batcher
from app.db.pools import Database
from app.db.rows import IdempotencyKey
from app.payments import PayOrder
from app.placing import PlaceOrder
from app.times import now
from tests.integration.hops import ANN


def placing_in(database: Database) -> Batcher[PlaceOrder, Any]:
    return Batcher(partial(placing.place_together, database), partial(placing.place, database))


def paying_in(database: Database) -> Batcher[PayOrder, Any]:
    return Batcher(
        partial(payments.request_payments_together, database),
        partial(payments.request_payment, database),
    )


def key_of(request: bytes) -> IdempotencyKey:
    """Return an unused key for that request."""
    return IdempotencyKey(ANN.id, str(uuid4()), request, now() + timedelta(hours=1))


async def done(batcher: Batcher[Any, Any], *wanted: Any) -> list[Any]:
    """Return the results, or the exceptions, of requests that arrive at once."""
    work = (batcher.do(one) for one in wanted)
    return list(await asyncio.gather(*work, return_exceptions=True))
