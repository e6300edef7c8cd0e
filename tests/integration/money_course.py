"""Drive one order's money against PostgreSQL: Stripe's reports, our agents, our calls.

Nothing happens by itself: a test lets each report arrive, each event be handled, each call be made.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from app import checkout, orders, payments, stock
from app.db.pools import Database
from app.db.queries import sql
from app.errors import NotCancellable, NotPayable, PaymentInProgress
from app.expiry import expire_due
from app.kafka.decoding import read_event
from app.operations.audit import Scope, look
from app.stripe import events
from app.stripe.calls import Calls
from app.stripe.webhook import Report
from app.times import now
from app.topics import (
    CheckoutRequested,
    Event,
    InventoryRejected,
    InventoryReserved,
    OrderCancelled,
    OrderPaid,
    PaymentFailed,
    PaymentRequested,
    PaymentSucceeded,
    RefundRequested,
)
from tests.integration.hops import ANN, add_product, cancel, order_of, request_payment, topics
from tests.integration.stripe_books import Bank, Books

TOTAL = 9999

HANDLERS: list[tuple[type[Event], Callable[..., Awaitable[None]]]] = [
    (CheckoutRequested, checkout.note_call),
    (PaymentRequested, payments.capture),
    (PaymentSucceeded, orders.mark_paid),
    (PaymentFailed, orders.cancel_unpaid),
    (OrderPaid, stock.reserve),
    (InventoryReserved, orders.complete),
    (InventoryRejected, orders.cancel_unstocked),
    (OrderCancelled, payments.request_refunds),
    (OrderCancelled, stock.release),
    (RefundRequested, payments.refund),
]

LATE = timedelta(hours=1)
"""From now until an order's deadline has surely passed."""
MAX_ROUNDS = 60


class Course:
    """One order, and everything that can happen to it."""

    def __init__(self, database: Database, order_id: UUID) -> None:
        self.database, self.order_id = database, order_id
        self.bank = Bank()
        self.calls = Calls(database, self.bank)
        self.arrived: dict[str, Report] = {}
        self._handled: set[tuple[Any, Any]] = set()

    def in_transit(self) -> list[Report]:
        """Return the reports that have not arrived yet."""
        told = [report for books in self.bank.books for report in books.reports]
        return [report for report in told if report.event_id not in self.arrived]

    async def arrive(self, report: Report) -> None:
        """Let a report arrive."""
        self.arrived[report.event_id] = report
        await events.record(self.database, report, b"{}", "a webhook")

    async def waiting(self) -> list[tuple[Any, Any, Event]]:
        """Return the pairs of event and handler that are not handled yet."""
        rows = await self.fetch("select event_id, topic, payload from outbox where order_id = $1")
        return [
            (row["event_id"], handle, read_event(record, row["payload"].encode()))
            for row in rows
            for record, handle in HANDLERS
            if row["topic"] == record.topic_name and (row["event_id"], handle) not in self._handled
        ]

    async def handle(self, event_id: Any, handle: Any, event: Event) -> None:
        """Let an agent handle an event."""
        async with self.database.transaction() as transaction:
            await handle(transaction, [event])
        self._handled.add((event_id, handle))

    async def handle_all(self) -> None:
        """Let agents handle all events, including those that result."""
        while waiting := await self.waiting():
            for each in waiting:
                await self.handle(*each)

    async def call(self) -> int:
        """Make all open calls, including those that wait for a retry; return how many.

        Those that look at a refund a month later are left alone.
        """
        async with self.database.connection() as connection:
            await connection.execute(
                "update provider_calls set due_at = now()"
                " where done_at is null and due_at < now() + interval '1 day'"
            )
        started = await self.calls.start_due()
        for task in started:
            await task
        return len(started)

    async def pay(self) -> None:
        """Pay through the internal provider, if the order allows it."""
        with suppress(NotPayable, PaymentInProgress):
            await request_payment(self.database, self.order_id)

    async def check_out(self) -> None:
        """Ask for a checkout, if the order allows it."""
        with suppress(NotPayable, PaymentInProgress):
            command = checkout.StartCheckout(ANN, self.order_id, None, "check out")
            await checkout.request_checkout(self.database, command)

    async def cancel(self) -> None:
        """Cancel as the customer, if the order allows it."""
        with suppress(NotCancellable):
            await cancel(self.database, self.order_id)

    async def expire(self) -> None:
        """Let the order's deadline pass."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update order_deadlines set due_at = now() - interval '1 s' where order_id = $1",
                self.order_id,
            )
        await expire_due(self.database, now() + timedelta(seconds=1))

    async def come_to_rest(self) -> None:
        """Let everything pending happen; expire the order if it then still waits for money."""
        for _ in range(MAX_ROUNDS):
            moved = await self.call()
            for report in self.in_transit():
                await self.arrive(report)
                moved += 1
            for event_id, handle, event in await self.waiting():
                await self.handle(event_id, handle, event)
                moved += 1
            if not moved:
                if await self.status() != "CREATED":
                    return
                await self.expire()
        raise AssertionError(f"it does not come to rest: {await self.payments()}")

    async def status(self) -> str:
        (row,) = await self.fetch("select status from orders where id = $1")
        return str(row["status"])

    async def payments(self) -> list[Any]:
        return await self.fetch("select * from payments where order_id = $1 order by created_at")

    async def topics(self) -> list[str]:
        return await topics(self.database, self.order_id)

    async def fetch(self, query: str) -> list[Any]:
        """Return the rows that the query finds by the order's id."""
        async with self.database.connection() as connection:
            return list(await connection.fetch(query, self.order_id))


async def forget_what_is_due(database: Database) -> None:
    """Remove calls and deadlines of other tests, which would count too."""
    async with database.connection() as connection:
        await connection.execute("delete from order_deadlines")
        await connection.execute("update provider_calls set done_at = now() where done_at is null")


async def overdue(database: Database) -> int:
    """Return how many of Stripe's calls operators are shown as overdue."""
    async with database.connection() as connection:
        waiting = await sql.calls_waiting(connection, patience=timedelta(seconds=5))
    return int(waiting["overdue"])


async def course(database: Database, pieces: int = 10) -> Course:
    """Place an order of 99.99."""
    return Course(database, await order_of(database, {await add_product(database, pieces): 1}))


async def ready(database: Database, pieces: int = 10) -> tuple[Course, Books]:
    """Place an order, and open its checkout."""
    one = await course(database, pieces)
    await one.check_out()
    for waiting in await one.waiting():
        await one.handle(*waiting)
    await one.call()
    (books,) = one.bank.books
    return one, books


async def assert_conserved(one: Course) -> None:
    """Assert that our records match Stripe's, and that the order keeps its total or nothing."""
    rows = await one.payments()
    kept = [row for row in rows if row["status"] == "SUCCEEDED"]
    status = await one.status()
    assert status in ("COMPLETED", "CANCELLED")
    assert len(kept) == (status == "COMPLETED"), [dict(row) for row in rows]
    by_session = {row["session_id"]: row for row in rows}
    for books in one.bank.books:
        row = by_session.get(books.session)
        assert row or books.taken == 0
        if row:
            assert (row["captured_minor"], row["refunded_minor"]) == (books.taken, books.given)
            assert row["announced_minor"] == row["refunded_minor"]
    for row in rows:
        gone = row["refunded_minor"]
        if row in kept:
            assert row["captured_minor"] == TOTAL
            by_hand = [b.by_hand for b in one.bank.books if b.session == row["session_id"]]
            assert gone == sum(by_hand), "we give back nothing of what is kept"
        else:
            assert gone == row["captured_minor"], dict(row)
    topics = await one.topics()
    assert ("order.completed" in topics) == (status == "COMPLETED")
    if "order.completed" in topics:
        assert "payment.succeeded" in topics[: topics.index("order.completed")], "none ships unpaid"


async def assert_audited(database: Database, order_id: UUID) -> None:
    """Assert that the audit finds nothing wrong with the order."""
    async with database.connection() as connection, connection.transaction():
        report = await look(connection, Scope(most=1000))
    found = [finding for finding in report.findings if str(order_id) in dict(finding.subjects)]
    assert not found
