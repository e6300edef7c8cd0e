"""Expiry: an order that is not paid by its deadline is cancelled.

Deadlines stand in a table of their own: an index on a column of `orders` would make every update of
that column dearer. A deadline is moved or deleted only under its order's row lock. Nothing else
deletes it, also when the order ends early: the hops of an order stay as cheap as they are, and what
is left is deleted here in batches, when it is due.
"""

from datetime import datetime, timedelta
from uuid import uuid4

from app import order_rows, orders
from app.db import Database, sql
from app.lifecycle import EXPIRED, Status

BATCH = 100
PATIENCE = timedelta(seconds=30)
"""After which an order is looked at again whose payment was under way when it was due."""


async def expire_due(database: Database, now: datetime, batch: int = BATCH) -> int:
    """Settle up to `batch` deadlines passed at `now`; how many. Fewer than `batch`: none is left.

    An order still CREATED is cancelled, unless a payment attempt is live: then its deadline moves
    on. Many workers may do this at once: each order is settled once. Raises one of AWAY.
    """
    async with database.transaction() as transaction:
        rows = await sql.lock_due_orders(transaction.connection, now=now, batch=batch)
        due = {row["id"]: order_rows.hold(transaction, row) for row in rows}
        settled = await sql.settle_deadlines(
            transaction.connection,
            order_ids=list(due),
            unpaid=[id for id, order in due.items() if order.status is Status.CREATED],
            now=now,
            later=now + PATIENCE,
        )
        request_id = str(uuid4())
        for order in (due[row["order_id"]] for row in settled):
            if order.status is Status.CREATED:
                orders.cancel(transaction, order, EXPIRED, request_id)
    return len(rows)
