"""The transactions of a lifecycle: the service's statements with a minimum of code around them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
from uuid_utils.compat import uuid7

from bench.bare.events import Event, clock, event, rows_of, text_of
from bench.bare.shapes import (
    Message,
    changed,
    items,
    line,
    major,
    notification,
    order,
    order_answer,
    payment,
    report,
    summary,
    told,
)
from bench.bare.statements import Statements

_TOLD_AT_CREATION = ("userId", "totalAmount", "currency", "createdAt", "items", "customerEmail")


_PARAMETERS = (
    "placed",
    "lines",
    "orders",
    "payments",
    "reports",
    "refunds",
    "calls",
    "outcomes",
    "taken",
    "notifications",
    "keys",
    "events",
)


class _Basket:
    """What a customer orders, and the data of the Idempotency-Key."""

    def __init__(self, user: UUID, lines: dict[UUID, int], moment: datetime) -> None:
        self.id, self.user, self.lines = uuid7(), user, lines
        self.email = f"{user}@example.com"
        self.key, self.fingerprint = str(uuid4()), uuid4().bytes * 2
        self.moment, self.expires = moment, moment + timedelta(days=1)

    def row(self, prices: dict[UUID, int]) -> Message:
        """Return the row of `orders`, with its deadline."""
        return order(self.id, self.user, self.email, self.total(prices), self.moment, self.expires)

    def rows(self, prices: dict[UUID, int]) -> list[Message]:
        """Return the rows of `order_items`."""
        return [
            line(self.id, number, product, pieces, prices[product])
            for number, (product, pieces) in enumerate(self.lines.items(), start=1)
        ]

    def total(self, prices: dict[UUID, int]) -> int:
        """Return the total in minor units."""
        return sum(prices[id] * pieces for id, pieces in self.lines.items())

    def placed(self, prices: dict[UUID, int]) -> tuple[Event, Message]:
        """Return the event of the creation, and the row of its key with the answer."""
        total = self.total(prices)
        answer = order_answer(
            self.id, self.user, self.email, total, self.lines, prices, self.moment
        )
        replay = {
            "idempotencyKey": self.key,
            "fingerprint": self.fingerprint.hex(),
            "keyExpiresAt": text_of(self.expires),
        }
        stored = {
            "user_id": self.user,
            "key": self.key,
            "fingerprint": replay["fingerprint"],
            "expires_at": self.expires,
            "answer": answer,
        }
        return _created(answer, str(uuid4()), replay), stored


Hop = Callable[[asyncpg.Connection, Sequence[Message]], Awaitable[None]]


class Hops:
    """One method for each transaction of an order; `carry` receives the events it has committed."""

    def __init__(self, statements: Statements, carry: Callable[[list[Event]], None]) -> None:
        self._sql = statements
        self._carry = carry

    async def place(
        self, connection: asyncpg.Connection, wanted: Sequence[tuple[UUID, dict[UUID, int]]]
    ) -> list[UUID]:
        """Place an order for each user and pieces by product; return the orders' ids."""
        moment = clock()
        baskets = [_Basket(user, lines, moment) for user, lines in wanted]
        ids = list({id for one in baskets for id in one.lines})
        rows = await self._sql.fetch(connection, "products_by_ids", ids=ids)
        prices = {row["id"]: row["price_minor"] for row in rows}
        placed = [one.placed(prices) for one in baskets]
        events = [created for created, _ in placed]
        await self._write(
            connection,
            placed=[one.row(prices) for one in baskets],
            lines=[row for one in baskets for row in one.rows(prices)],
            keys=[key for _, key in placed],
            events=rows_of(events),
        )
        self._carry(events)
        return [one.id for one in baskets]

    async def pay(self, connection: asyncpg.Connection, order_ids: Sequence[UUID]) -> None:
        """Request payments of the exact totals."""
        rows = await self._sql.fetch(connection, "whole_orders", ids=order_ids)
        payments, events = [], []
        for row in rows:
            order_id, payment_id, total = str(row["id"]), str(uuid7()), row["total_minor"]
            payments.append(payment(payment_id, order_id, total, "PENDING"))
            events.append(
                event(
                    "order.payment_requested",
                    order_id,
                    row["version"] + 1,
                    str(uuid4()),
                    **told(payment_id, total),
                    expectedAmount=major(total),
                )
            )
        moved = [changed(row, "CREATED") for row in rows]
        await self._write(connection, orders=moved, payments=payments, events=rows_of(events))
        self._carry(events)

    async def capture(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """Payment: capture."""
        async with connection.transaction():
            orders = await self._lock(connection, messages, "money_of")
            accounts = [one for row in orders.values() for one in orjson.loads(row["payments"])]
            by_id = {one["id"]: one for one in accounts}
            payments, reports, events = [], [], []
            for message in messages:
                order_id, id = message["orderId"], message["paymentId"]
                total = by_id[id]["amount_minor"]
                payments.append(payment(id, order_id, total, "SUCCEEDED"))
                reports.append(report(id, order_id, total))
                row = orders[UUID(order_id)]
                events.append(_next("payment.succeeded", row, message, **told(id, total)))
            moved = [changed(row, "CREATED") for row in orders.values()]
            await self._write(
                connection, orders=moved, payments=payments, reports=reports, events=rows_of(events)
            )
        self._carry(events)

    async def mark_paid(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """Order status: PAID."""
        async with connection.transaction():
            orders = await self._lock(connection, messages, "money_of")
            events = [
                _next("order.paid", row, one, **summary(row), paymentId=one["paymentId"])
                for one in messages
                for row in [orders[UUID(one["orderId"])]]
            ]
            moved = [changed(row, "PAID") for row in orders.values()]
            await self._write(connection, orders=moved, events=rows_of(events))
        self._carry(events)

    async def reserve(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """Inventory: reserve."""
        async with connection.transaction():
            orders = await self._lock(connection, messages, "stock_of")
            lines: dict[UUID, dict[str, int]] = {}
            taken: Counter[str] = Counter()
            for id, row in orders.items():
                lines[id] = {product: pieces for product, pieces, _ in orjson.loads(row["lines"])}
                taken.update(lines[id])
            events = [
                _next("inventory.reserved", orders[id], message, items=items(lines[id]))
                for message in messages
                for id in [UUID(message["orderId"])]
            ]
            moved = [changed(row, "PAID") for row in orders.values()]
            outcomes = [{"order_id": id, "outcome": "RESERVED"} for id in orders]
            pieces = [{"id": id, "quantity": quantity} for id, quantity in taken.items()]
            await self._write(
                connection, orders=moved, outcomes=outcomes, taken=pieces, events=rows_of(events)
            )
        self._carry(events)

    async def complete(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """Order status: COMPLETED."""
        async with connection.transaction():
            orders = await self._lock(connection, messages)
            events = [
                _next(
                    "order.completed", row, one, **summary(row), customerEmail=row["customer_email"]
                )
                for one in messages
                for row in [orders[UUID(one["orderId"])]]
            ]
            moved = [changed(row, "COMPLETED") for row in orders.values()]
            await self._write(connection, orders=moved, events=rows_of(events))
        self._carry(events)

    async def tell(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """Notification."""
        told = [notification(message["orderId"]) for message in messages]
        async with connection.transaction():
            await self._write(connection, notifications=told)

    async def _lock(
        self, connection: asyncpg.Connection, messages: Sequence[Message], more: str | None = None
    ) -> dict[UUID, Any]:
        ids = [message["orderId"] for message in messages]
        wanted = {kind: ids if kind == more else [] for kind in ("money_of", "stock_of")}
        rows = await self._sql.fetch(connection, "lock_orders", ids=ids, **wanted)
        return {row["id"]: row for row in rows}

    async def _write(self, connection: asyncpg.Connection, **rows: Sequence[Message]) -> None:
        """Write rows by the parameters of `write_changes`; those left out have none."""
        changes = {name: _json(rows.get(name, ())) for name in _PARAMETERS}
        await self._sql.fetch(connection, "write_changes", now=clock(), **changes)


def _json(rows: Sequence[Message]) -> str:
    return orjson.dumps(rows, default=str).decode() if rows else "[]"


def _created(answer: Message, request_id: str, replay: Message) -> Event:
    told = {name: answer[name] for name in _TOLD_AT_CREATION}
    return event("order.created", answer["id"], 1, request_id, **told, **replay, answer=answer)


def _next(topic: str, row: Any, message: Message, **more: Any) -> Event:
    return event(topic, message["orderId"], row["version"] + 1, message["requestId"], **more)
