"""Expiry: an order that is not paid by its deadline is cancelled; its open checkout ends first.

Deadlines stand in a table of their own: an index on a column of `orders` would make every update of
that column dearer. A deadline is moved or deleted only under its order's row lock. Nothing else
deletes it, also when the order ends early: the hops of an order stay as cheap as they are, and what
is left is deleted here in batches, when it is due.
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
"""After which an order is looked at again whose payment was under way when it was due."""


async def expire_due(database: Database, moment: datetime, batch: int = BATCH) -> int:
    """Settle up to `batch` deadlines passed at `moment`; how many. Fewer: none is left.

    An order still CREATED is cancelled, unless money may be under way: then its deadline moves on.
    Of an open checkout Stripe is asked first; what it answers cancels the order, or lets it wait.
    Many workers may do this at once: each order is settled once. Raises one of AWAY.
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
