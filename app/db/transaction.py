"""A transaction, and the one statement that writes all its changes before it commits."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from orjson import Fragment

from app.db.queries import sql
from app.db.rows import (
    DueCall,
    IdempotencyKey,
    LineRow,
    NotificationRow,
    OrderRow,
    OutboxRow,
    PaymentRow,
    RefundRow,
    ReportRow,
)
from app.ids import new_id
from app.lifecycle import Order
from app.money.statuses import LIVE
from app.times import now, rfc3339
from app.topics import Event


@dataclass(slots=True)
class Transaction:
    """An open transaction, and the changes it will write in one statement before it commits."""

    connection: asyncpg.Connection
    placed: list[OrderRow] = field(default_factory=list)
    """New orders, with the deadlines for their payment."""
    lines: list[LineRow] = field(default_factory=list)
    """The lines of new orders."""
    orders: dict[UUID, Order] = field(default_factory=dict)
    """The orders that it has locked or read; those with an event are written back."""
    read_versions: dict[UUID, int] = field(default_factory=dict)
    """The versions of those orders when they were locked or read, which must still stand."""
    payments_json: dict[UUID, str | None] = field(default_factory=dict)
    """The payments (JSON) by locked order, for orders whose payments were read."""
    undecided: dict[UUID, str | None] = field(default_factory=dict)
    """The lines (JSON) that inventory has not decided on, by locked order, where read."""
    decisions: dict[UUID, str | None] = field(default_factory=dict)
    """Inventory's decision by locked order, if it is PAID and its event was locked."""
    payments: dict[UUID, PaymentRow] = field(default_factory=dict)
    """Payment attempts that are new or changed."""
    reports: list[ReportRow] = field(default_factory=list)
    """Reports of providers about payments."""
    refunds: dict[UUID, RefundRow] = field(default_factory=dict)
    """Refunds that are requested or answered."""
    calls: dict[tuple[str, UUID], DueCall] = field(default_factory=dict)
    """Calls of a provider to be made, by kind and the id of their subject."""
    outcomes: dict[UUID, str] = field(default_factory=dict)
    """Inventory's decisions by order: RESERVED or REJECTED."""
    taken: Counter[UUID] = field(default_factory=Counter)
    """The pieces that those orders reserve, by product."""
    notifications: dict[NotificationRow, Callable[[], None] | None] = field(default_factory=dict)
    """Notifications of customers, each with what to run if it is written, as a new one."""
    events: list[Event] = field(default_factory=list)
    """The events that it emits, each order's in sequence."""
    answers: list[tuple[IdempotencyKey, str]] = field(default_factory=list)
    """Idempotency keys, and the answers (JSON) that their replays get."""
    product_versions: dict[UUID, int] = field(default_factory=dict)
    """Versions of the products to be evicted from the cache after the commit."""
    notices: list[Callable[[], None]] = field(default_factory=list)
    """Log lines and counters to run after everything is written, right before the commit."""
    written: list[OutboxRow] = field(default_factory=list)
    """The outbox rows of its events, once they are written."""
    is_committed: bool = False
    """Whether the commit is certain; False if PostgreSQL's answer to it was lost."""

    def emit(self, record: type[Event], order: Order, request_id: str, **fields: Any) -> None:
        """Append the order's next event to the outbox when this transaction commits.

        The event advances the order's version, and the order is written back with it. `fields` are
        those that `record` does not share with all events.
        """
        moment = now()
        self.events.append(
            record(
                eventId=str(new_id()),
                orderId=str(order.id),
                sequence=order.advance(moment),
                occurredAt=rfc3339(moment),
                requestId=request_id,
                **fields,
            )
        )

    @property
    def order_versions(self) -> dict[UUID, int]:
        """The versions, after this transaction, of the orders it has locked or read."""
        return {order.id: order.version for order in self.orders.values()}


def _rows(transaction: Transaction, outbox: Sequence[OutboxRow]) -> dict[str, list[Any]]:
    """Return the rows to write, by the statement's parameters."""
    outcomes, taken = transaction.outcomes.items(), transaction.taken.items()
    with_event = {row.order_id for row in outbox}
    orders = [order for order in transaction.orders.values() if order.id in with_event]
    # The unique index on live attempts is checked row by row: attempts that end must come first.
    payments = sorted(transaction.payments.values(), key=lambda payment: payment.status in LIVE)
    return {
        "placed": transaction.placed,
        "lines": transaction.lines,
        "orders": [_order(order, transaction.read_versions[order.id]) for order in orders],
        "payments": payments,
        "reports": transaction.reports,
        "refunds": list(transaction.refunds.values()),
        "calls": list(transaction.calls.values()),
        "outcomes": [{"order_id": id, "outcome": outcome} for id, outcome in outcomes],
        "taken": [{"id": id, "quantity": pieces} for id, pieces in taken],
        "notifications": [row._asdict() for row in transaction.notifications],
        "keys": [_key(key, answer) for key, answer in transaction.answers],
        "events": [row._asdict() | {"payload": Fragment(row.payload)} for row in outbox],
    }


def _order(order: Order, read_version: int) -> dict[str, Any]:
    return {
        "id": order.id,
        "read_version": read_version,
        "status": order.status,
        "version": order.version,
        "cancel_reason": order.cancel_reason,
        "updated_at": order.updated_at,
    }


def _key(key: IdempotencyKey, answer: str) -> dict[str, Any]:
    return {
        "user_id": key.user_id,
        "key": key.key,
        "fingerprint": key.fingerprint.hex(),
        "expires_at": key.expires_at,
        "answer": Fragment(answer),
    }


def _json(rows: list[Any]) -> str:
    """Return the rows as a JSON array.

    `default=str` is for asyncpg's UUIDs, a subclass that orjson does not serialise itself.
    """
    return orjson.dumps(rows, default=str).decode() if rows else "[]"


async def write_changes(transaction: Transaction) -> None:
    """Write all that the transaction has gathered, by one statement: `app/sql/transaction.sql`.

    An order that was locked or read is written back only if it has an event. Skipped are reports,
    notifications and calls that are there already (but a finished call that expires a session
    becomes due again), and notifications of a status that their order does not have.

    Writes nothing and raises one of CONFLICT if an order with an event has another version than was
    read, if a key exists that this transaction has not claimed, or if an order would have two live
    payments. Raises what PostgreSQL says if any other constraint refuses a row; of a unique or a
    not-null one, that is one of CONFLICT, too.
    """
    outbox = [_outbox_row(event) for event in transaction.events]
    rows = _rows(transaction, outbox)
    if not any(rows.values()):
        return
    changes = {name: _json(some) for name, some in rows.items()}
    changed = await sql.write_changes(transaction.connection, now=now(), **changes)
    transaction.written = outbox
    _note_changed(transaction, changed)


def _note_changed(transaction: Transaction, changed: list[Any]) -> None:
    products = (row for row in changed if row["version"] is not None)
    transaction.product_versions.update({row["id"]: row["version"] for row in products})
    new = {(row["id"], row["kind"], row["channel"]) for row in changed}
    for row, notice in transaction.notifications.items():
        if notice and (row.order_id, row.kind, row.channel) in new:
            transaction.notices.append(notice)


def _outbox_row(event: Event) -> OutboxRow:
    return OutboxRow(
        event.eventId,
        event.topic_name,
        event.order_id,
        event.sequence,
        event.requestId,
        event.occurredAt,
        event.dumps(),
    )
