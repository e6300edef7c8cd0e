"""Expiry: cancels orders that are not paid by their deadline, after expiring an open checkout.

Deadlines have a table of their own, because an index on a column of `orders` would make updates of
orders more expensive. A deadline is moved or deleted only under its order's row lock. Only this
module deletes deadlines, in batches when they are due, also those of orders that ended early: so
the other steps of an order need no statement for it.
"""

from datetime import datetime, timedelta
from uuid import uuid4

from app import order_rows, orders
from app.db import Database
from app.lifecycle import EXPIRED, Status
from app.money.settle import call_for
from app.queries import sql

BATCH = 100
RETRY_AFTER = timedelta(seconds=30)
"""How long an order's deadline is postponed when a payment is in progress."""


async def expire_due(database: Database, moment: datetime, batch: int = BATCH) -> int:
    """Process up to `batch` deadlines that have passed at `moment`; return how many.

    Fewer than `batch` means that none is left, apart from orders locked by other transactions. An
    order that is still CREATED is cancelled, unless a payment is in progress: then its deadline is
    postponed. An open checkout is expired at Stripe first; Stripe's answer cancels the order or
    lets it wait. Several workers may run this at once: each order is locked by one of them. Raises
    one of AWAY.
    """
    async with database.transaction("expiry.expire_due") as transaction:
        rows = await sql.lock_due_orders(transaction.connection, now=moment, batch=batch)
        due = {row["id"]: order_rows.note_order(transaction, row) for row in rows}
        rest = await sql.settle_deadlines(
            transaction.connection,
            order_ids=list(due),
            unpaid=[id for id, order in due.items() if order.status is Status.CREATED],
            now=moment,
            later=moment + RETRY_AFTER,
        )
        request_id = str(uuid4())
        for order_id, session_of in rest:
            if session_of:
                call_for(transaction, "expire", order_id, session_of, request_id)
            elif due[order_id].status is Status.CREATED:
                orders.cancel(transaction, due[order_id], EXPIRED, request_id)
    return len(rows)
