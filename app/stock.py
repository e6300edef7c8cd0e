"""Reserving stock for paid orders, all lines or none, and releasing it."""

from collections.abc import Mapping, Sequence, Set
from typing import Any
from uuid import UUID

import orjson

from app import order_locks
from app.db.queries import sql
from app.db.transaction import Transaction
from app.ids import parse_id
from app.lifecycle import Status, shortages
from app.times import now
from app.topics import InventoryRejected, InventoryReserved, OrderCancelled, OrderPaid


async def reserve(transaction: Transaction, events: Sequence[OrderPaid]) -> None:
    """Reserve all lines of each PAID order, or none of them: first paid, first served."""
    locked = await order_locks.lock(transaction, events)
    wanted, available = await _undecided(transaction, locked.keys())
    for event in events:
        order, lines = locked[event.order_id], wanted[event.order_id]
        if not lines or order.status is not Status.PAID or order.id in transaction.outcomes:
            continue
        if missing := shortages(lines, available):
            transaction.outcomes[order.id] = "REJECTED"
            transaction.emit(
                InventoryRejected, order, event.requestId, shortages=_shortages(missing)
            )
        else:
            transaction.outcomes[order.id] = "RESERVED"
            transaction.taken.update(lines)
            available.update({id: available[id] - pieces for id, pieces in lines.items()})
            transaction.emit(InventoryReserved, order, event.requestId, items=_items(lines))
    await _evict_again(transaction, locked.keys() - transaction.outcomes.keys())


async def release(transaction: Transaction, events: Sequence[OrderCancelled]) -> None:
    """Release the stock reserved for cancelled orders, once.

    An order that is cancelled before `reserve` has decided on it never holds stock, because
    `reserve` decides on PAID orders only. Both check the status under the order's lock.
    """
    locked = await order_locks.lock(transaction, events)
    cancelled = [id for id, order in locked.items() if order.status is Status.CANCELLED]
    held = await sql.lock_reserved_products(transaction.connection, order_ids=cancelled)
    # Also products released earlier: that worker may have died before it evicted them.
    transaction.product_versions.update({row["id"]: row["version"] for row in held})
    if held:
        rows = await sql.release_reservations(
            transaction.connection, order_ids=cancelled, now=now()
        )
        transaction.product_versions.update({row["id"]: row["version"] for row in rows})


def _items(lines: Mapping[UUID, int]) -> list[dict[str, Any]]:
    return [{"productId": str(id), "quantity": pieces} for id, pieces in lines.items()]


def _shortages(missing: Mapping[UUID, int]) -> list[dict[str, Any]]:
    return [{"productId": str(id), "missing": pieces} for id, pieces in missing.items()]


async def _undecided(
    transaction: Transaction, order_ids: Set[UUID]
) -> tuple[dict[UUID, dict[UUID, int]], dict[UUID, int]]:
    """Return each order's pieces by product, and the available pieces by product.

    An order that inventory has decided on has no pieces.
    """
    await order_locks.lock_all(transaction, order_ids, stock_of=order_ids)
    wanted: dict[UUID, dict[UUID, int]] = {}
    available: dict[UUID, int] = {}
    for id in order_ids:
        lines = orjson.loads(transaction.undecided[id] or "[]")
        wanted[id] = {parse_id(product_id): pieces for product_id, pieces, _ in lines}
        available.update({parse_id(product_id): left for product_id, _, left in lines})
    return wanted, available


async def _evict_again(transaction: Transaction, decided: Set[UUID]) -> None:
    """Have the products of redelivered orders evicted from the cache again.

    The worker that decided on them may have died before it evicted them.
    """
    if decided:
        rows = await sql.product_versions(transaction.connection, order_ids=list(decided))
        transaction.product_versions.update({row["id"]: row["version"] for row in rows})
