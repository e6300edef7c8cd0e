"""Expiry: cancels orders that are not paid by their deadline, after expiring an open checkout.

Deadlines have a table of their own, because an index on a column of `orders` would make updates of
orders more expensive. A deadline is moved or deleted only under its order's row lock. Only this
module deletes deadlines, in batches when they are due, also those of orders that ended early: so
the other steps of an order need no statement for it.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from asyncpg import PostgresError

from app import order_locks, orders
from app.db.errors import AWAY
from app.db.pools import Database
from app.db.queries import sql
from app.db.transaction import Transaction
from app.lifecycle import EXPIRED, Status
from app.money.settle import call_for
from app.resilience.quarantine import Quarantine

log = logging.getLogger(__name__)

BATCH = 100
RETRY_AFTER = timedelta(seconds=30)
"""How long an order's deadline is postponed when a payment is in progress."""


async def expire_due(
    database: Database, moment: datetime, batch: int = BATCH, quarantine: Quarantine | None = None
) -> int:
    """Process up to `batch` deadlines that have passed at `moment`; return how many it looked at.

    Fewer than `batch` means that none is left, apart from orders that are locked by other
    transactions or in `quarantine`. An order that is still CREATED is cancelled, unless a payment
    is in progress: then its deadline is postponed. An open checkout is expired at Stripe first;
    Stripe's answer cancels the order or lets it wait. Several workers may run this at once: each
    order is locked by one of them.

    If PostgreSQL refuses a batch for one of its orders, as many are processed one by one. Those
    that are refused alone are logged and put in `quarantine`; their deadlines stay as they are,
    because a passed one is all that shows the audit that an order is stuck. Raises one of AWAY, or
    what PostgreSQL says if it refuses to look for orders.
    """
    quarantine = Quarantine() if quarantine is None else quarantine
    locked: list[UUID] = []
    try:
        async with database.transaction("expiry.expire_due") as transaction:
            rows = await sql.lock_due_orders(
                transaction.connection, now=moment, batch=batch, quarantined=quarantine.ids()
            )
            locked += [row["id"] for row in rows]
            await _expire(transaction, rows, moment)
    except AWAY:
        raise
    except PostgresError:
        match locked:
            case []:
                raise
            case [order_id]:
                log.exception(
                    "Order %s is past its deadline, and PostgreSQL refuses its change", order_id
                )
                quarantine.add(order_id)
            case _:
                for _ in locked:
                    await expire_due(database, moment, 1, quarantine)
    return len(locked)


async def _expire(
    transaction: Transaction, rows: Sequence[Mapping[str, Any]], moment: datetime
) -> None:
    due = {row["id"]: order_locks.note_order(transaction, row) for row in rows}
    rest = await sql.settle_deadlines(
        transaction.connection,
        order_ids=list(due),
        unpaid=[id for id, order in due.items() if order.status is Status.CREATED],
        now=moment,
        later=moment + RETRY_AFTER,
    )
    request_id = str(uuid4())
    for order_id, open_payment in rest:
        if open_payment:
            call_for(transaction, "expire", order_id, open_payment, request_id)
        elif due[order_id].status is Status.CREATED:
            orders.cancel(transaction, due[order_id], EXPIRED, request_id)
