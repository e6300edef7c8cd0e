"""New orders: which are admitted, and how those that arrive together share a transaction."""

from functools import partial
from typing import Any

from aiohttp import web

from app import admission, idempotency, placing, request_batch_pool, request_pool
from app.db.batching import Batcher
from app.errors import Overloaded, Problem
from app.identity.tokens import Identity
from app.resilience.bulkhead import Bulkhead
from tables import replays
from web.http.requests import key_name

_bulkhead = Bulkhead(concurrent=64, waiting=200)
"""With more creations at once, new orders would delay accepted ones. A burst waits for its turn,
sustained overload is refused."""

_creations = Batcher(
    partial(placing.place_together, request_batch_pool), partial(placing.place, request_pool)
)
_recalls = Batcher(
    partial(idempotency.recall_together, request_pool), partial(idempotency.recall, request_pool)
)
_look_ups = Batcher(
    partial(idempotency.are_known, request_pool), partial(idempotency.is_known, request_pool)
)
"""Look-ups of keys share transactions, because under overload there may be very many."""


async def shed(request: web.Request, user: Identity) -> None:
    """Refuse a new order for which there is no room, before its body is read. Raises Overloaded.

    The replay of an earlier creation goes on, as it adds no order.
    """
    if not _bulkhead.is_full and admission.has_room():
        return
    key = key_name(request)
    if key is None or not (replays.is_known(user.id, key) or await _look_ups.do((user.id, key))):
        raise Overloaded


async def admit_and_place(command: placing.PlaceOrder) -> tuple[dict[str, Any], bool]:
    """Place the order if it is admitted; return it, and whether it was placed before.

    Under overload, the replay of an earlier creation is still answered.
    """
    try:
        if _bulkhead.is_full or not admission.try_admit():
            raise Overloaded
        return await _place(command)
    except Overloaded:
        if command.key and (answer := await _recalls.do(command.key)):
            return answer, True
        raise


async def _place(command: placing.PlaceOrder) -> tuple[dict[str, Any], bool]:
    """Place an admitted order; a request that adds none does not count as one.

    After any other error than a Problem the order may have been placed.
    """
    try:
        async with _bulkhead.enter():
            order, is_replay = await _creations.do(command)
    except Problem:
        admission.discount()
        raise
    if is_replay:
        admission.discount()
    return order, is_replay
