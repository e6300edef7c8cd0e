"""Locking the orders that a transaction decides on, and reading what the rules need of them."""

from collections.abc import Mapping, Sequence, Set
from enum import Enum, auto
from typing import Any
from uuid import UUID

from app.db.queries import sql
from app.db.transaction import Transaction
from app.errors import OrderNotFound, UnknownOrder
from app.lifecycle import Order, Status
from app.topics import Event


class Reads(Enum):
    """What is locked and read for a handler about the orders of its events."""

    NOTHING = auto()
    ORDERS = auto()
    MONEY = auto()
    """Orders and their payments."""
    STOCK = auto()
    """Orders and the lines that inventory has not decided on."""


async def lock(transaction: Transaction, events: Sequence[Event]) -> dict[UUID, Order]:
    """Lock the orders of `events` and return them by id.

    An order is written back when the transaction commits, if it emits an event of it. Raises
    UnknownOrder when one does not exist.
    """
    wanted = {event.order_id for event in events}
    await lock_all(transaction, wanted)
    if missing := wanted - transaction.orders.keys():
        raise UnknownOrder(f"no such order: {', '.join(map(str, missing))}")
    return {id: transaction.orders[id] for id in wanted}


async def lock_all(
    transaction: Transaction,
    order_ids: Set[UUID],
    money_of: Set[UUID] = frozenset(),
    stock_of: Set[UUID] = frozenset(),
) -> None:
    """Lock the orders that exist and that the transaction has not locked yet.

    Also reads the payments of `money_of`, the lines of `stock_of` that inventory has not decided
    on, and its decisions on PAID orders.
    """
    money_of = money_of - transaction.payments_json.keys()
    stock_of = stock_of - transaction.undecided.keys()
    ids = (order_ids - transaction.orders.keys()) | money_of | stock_of
    if not ids:
        return
    for row in await sql.lock_orders(
        transaction.connection, ids=list(ids), money_of=list(money_of), stock_of=list(stock_of)
    ):
        if row["id"] not in transaction.orders:
            note_order(transaction, row)
            transaction.decisions[row["id"]] = row["decision"]
        if row["id"] in money_of:
            transaction.payments_json[row["id"]] = row["payments"]
        if row["id"] in stock_of:
            transaction.undecided[row["id"]] = row["lines"]


async def lock_one(transaction: Transaction, order_id: UUID) -> tuple[Order, Mapping[str, Any]]:
    """Lock one order; return it, and its row with its lines. Raises OrderNotFound."""
    row = await sql.lock_whole_order(transaction.connection, id=order_id)
    if row is None:
        raise OrderNotFound
    return note_order(transaction, row), row


async def read_whole(
    transaction: Transaction, order_ids: Sequence[UUID]
) -> dict[UUID, tuple[Order, Mapping[str, Any]]]:
    """Read the orders that exist, without locks; return each with its row, which has its lines."""
    rows = await sql.whole_orders(transaction.connection, ids=order_ids)
    return {row["id"]: (note_order(transaction, row), row) for row in rows}


async def lock_if_any(transaction: Transaction, order_id: UUID | None) -> Order | None:
    """Lock the order, unless this transaction has it already; None if it does not exist."""
    if order_id is None:
        return None
    await lock_all(transaction, {order_id})
    return transaction.orders.get(order_id)


def note_order(transaction: Transaction, row: Mapping[str, Any]) -> Order:
    """Add the order of a locked or read row to the transaction, and return it."""
    order = order_of_row(row)
    transaction.orders[order.id] = order
    transaction.read_versions[order.id] = order.version
    return order


def order_of_row(row: Mapping[str, Any]) -> Order:
    """Return the order that a row of `orders` holds."""
    return Order(
        id=row["id"],
        user_id=row["user_id"],
        status=Status(row["status"]),
        version=row["version"],
        total_minor=row["total_minor"],
        currency=row["currency"],
        customer_email=row["customer_email"],
        cancel_reason=row["cancel_reason"],
        updated_at=row["updated_at"],
    )
