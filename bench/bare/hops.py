"""The transactions of a lifecycle: the service's statements, and hardly anything around them."""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from bench.bare.events import Event, clock, columns, event, text_of
from bench.bare.shapes import (
    CURRENCY,
    Message,
    items,
    major,
    order_answer,
    payment,
    report,
    summary,
    told,
)
from bench.bare.statements import Statements

_TOLD_AT_CREATION = ("userId", "totalAmount", "currency", "createdAt", "items", "customerEmail")

Hop = Callable[[asyncpg.Connection, Sequence[Message]], Awaitable[None]]


class Hops:
    """One method for each transaction that an order goes through."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    async def place(
        self, connection: asyncpg.Connection, user: UUID, lines: dict[UUID, int]
    ) -> tuple[UUID, int]:
        """A new order of so many pieces by product: its id and total (minor units)."""
        order_id, key, request_id, moment = uuid4(), str(uuid4()), str(uuid4()), clock()
        fingerprint, expires = uuid4().bytes * 2, moment + timedelta(days=1)
        async with connection.transaction():
            claim = {"user_id": user, "key": key, "fingerprint": fingerprint, "expires_at": expires}
            await self._sql.fetch(connection, "claim_key", **claim)
            rows = await self._sql.fetch(connection, "products_by_ids", ids=list(lines))
            prices = {row["id"]: row["price_minor"] for row in rows}
            total = sum(prices[id] * pieces for id, pieces in lines.items())
            email = f"{user}@example.com"
            await self._sql.execute(
                connection,
                "insert_order",
                id=order_id,
                user_id=user,
                customer_email=email,
                total_minor=total,
                currency=CURRENCY,
                now=moment,
                product_ids=list(lines),
                quantities=list(lines.values()),
                prices=[prices[id] for id in lines],
                due_at=moment + timedelta(days=1),
            )
            answer = order_answer(order_id, user, email, total, lines, prices, moment)
            replay = {
                "idempotencyKey": key,
                "fingerprint": fingerprint.hex(),
                "keyExpiresAt": text_of(expires),
            }
            created = _created(answer, request_id, replay)
            stored = orjson.dumps(answer).decode()
            await self._write(connection, events=[created], answer=(user, key, stored))
        return order_id, total

    async def pay(self, connection: asyncpg.Connection, order_id: UUID) -> None:
        """Ask for the payment of the exact total."""
        async with connection.transaction():
            [row] = await self._sql.fetch(connection, "lock_order", id=order_id)
            total, payment_id = row["total_minor"], str(uuid4())
            requested = event(
                "order.payment_requested",
                str(order_id),
                row["version"] + 1,
                str(uuid4()),
                **told(payment_id, total),
                expectedAmount=major(total),
            )
            await self._write(
                connection,
                orders=[(row, "CREATED")],
                payments=[payment(payment_id, str(order_id), total, "PENDING")],
                events=[requested],
            )

    async def capture(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """payment: capture."""
        async with connection.transaction():
            orders = await self._lock(connection, messages)
            ids = list(orders)
            accounts = await self._sql.fetch(connection, "lock_accounts", order_ids=ids)
            by_id = {str(row["id"]): row for row in accounts}
            payments, reports, events = [], [], []
            for message in messages:
                order_id, id = message["orderId"], message["paymentId"]
                total = by_id[id]["amount_minor"]
                payments.append(payment(id, order_id, total, "SUCCEEDED"))
                reports.append(report(id, order_id, total))
                row = orders[UUID(order_id)]
                events.append(_next("payment.succeeded", row, message, **told(id, total)))
            moved = [(row, "CREATED") for row in orders.values()]
            await self._write(
                connection, orders=moved, payments=payments, reports=reports, events=events
            )

    async def mark_paid(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """order status: PAID."""
        async with connection.transaction():
            orders = await self._lock(connection, messages)
            events = [
                _next("order.paid", row, one, **summary(row), paymentId=one["paymentId"])
                for one in messages
                for row in [orders[UUID(one["orderId"])]]
            ]
            moved = [(row, "PAID") for row in orders.values()]
            await self._write(connection, orders=moved, events=events)

    async def reserve(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """inventory: reserve."""
        async with connection.transaction():
            orders = await self._lock(connection, messages)
            ids = list(orders)
            lines: dict[UUID, dict[UUID, int]] = defaultdict(dict)
            rows = await self._sql.fetch(connection, "undecided_items", order_ids=ids)
            taken: Counter[UUID] = Counter()
            for row in rows:
                lines[row["order_id"]][row["product_id"]] = row["quantity"]
                taken[row["product_id"]] += row["quantity"]
            await self._sql.fetch(connection, "lock_products", ids=list(taken))
            await self._sql.fetch(
                connection,
                "decide_reservations",
                order_ids=ids,
                outcomes=["RESERVED"] * len(ids),
                product_ids=list(taken),
                quantities=list(taken.values()),
                now=clock(),
            )
            events = [
                _next("inventory.reserved", orders[id], message, items=items(lines[id]))
                for message in messages
                for id in [UUID(message["orderId"])]
            ]
            moved = [(row, "PAID") for row in orders.values()]
            await self._write(connection, orders=moved, events=events)

    async def complete(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """order status: COMPLETED."""
        async with connection.transaction():
            orders = await self._lock(connection, messages)
            events = [
                _next(
                    "order.completed", row, one, **summary(row), customerEmail=row["customer_email"]
                )
                for one in messages
                for row in [orders[UUID(one["orderId"])]]
            ]
            moved = [(row, "COMPLETED") for row in orders.values()]
            await self._write(connection, orders=moved, events=events)

    async def tell(self, connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
        """notification."""
        ids = [message["orderId"] for message in messages]
        async with connection.transaction():
            await self._sql.fetch(
                connection, "note_notifications", order_ids=ids, kind="completed", channel="log"
            )

    async def _lock(
        self, connection: asyncpg.Connection, messages: Sequence[Message]
    ) -> dict[UUID, Any]:
        ids = [message["orderId"] for message in messages]
        rows = await self._sql.fetch(connection, "lock_orders", ids=ids)
        return {row["id"]: row for row in rows}

    async def _write(
        self,
        connection: asyncpg.Connection,
        *,
        orders: Sequence[tuple[Any, str]] = (),
        payments: Sequence[Message] = (),
        reports: Sequence[Message] = (),
        events: list[Event],
        answer: tuple[UUID, str, str] | None = None,
    ) -> None:
        moment = clock()
        user_id, key, stored = answer or (None, None, None)
        await self._sql.execute(
            connection,
            "write_changes",
            now=moment,
            order_ids=[row["id"] for row, _ in orders],
            statuses=[status for _, status in orders],
            versions=[row["version"] + 1 for row, _ in orders],
            cancel_reasons=[None] * len(orders),
            order_times=[moment] * len(orders),
            payments=orjson.dumps(payments).decode() if payments else "[]",
            reports=orjson.dumps(reports).decode() if reports else "[]",
            refunds="[]",
            calls="[]",
            user_id=user_id,
            key=key,
            answer=stored,
            **columns(events),
        )


def _created(answer: Message, request_id: str, replay: Message) -> Event:
    told = {name: answer[name] for name in _TOLD_AT_CREATION}
    return event("order.created", answer["id"], 1, request_id, **told, **replay, answer=answer)


def _next(topic: str, row: Any, message: Message, **more: Any) -> Event:
    return event(topic, message["orderId"], row["version"] + 1, message["requestId"], **more)
