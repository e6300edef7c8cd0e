"""Courses of one order's money against PostgreSQL: what Stripe did, its reports, and our agents.

Nothing happens by itself: a test lets each report arrive, each event be handled, each call be made.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from app import checkout, orders, payments, stock, stripe_events
from app.db import Database
from app.errors import NotCancellable, NotPayable, PaymentInProgress, ProviderRefused
from app.expiry import expire_due
from app.ledger import Fact, captured, expired, failed, refund, refunded_in_all
from app.provider_calls import Calls
from app.stripe_provider import Checkout, Refund, Session
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
    read_event,
)
from app.webhook import Report
from tests.integration.hops import ANN, cancel

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

MOST_ROUNDS = 60

TYPES = {
    "captured": "checkout.session.completed",
    "failed": "checkout.session.async_payment_failed",
    "refund": "refund.updated",
    "refunded_in_all": "charge.refunded",
}


def report_of(
    fact: Fact,
    order_id: UUID | None,
    session: str | None,
    intent: str | None,
    attempt_id: UUID | None = None,
) -> Report:
    """A report as the webhook reads it; each has an id of its own."""
    is_session = fact.kind in ("captured", "failed")
    return Report(
        event_id=f"evt_{uuid4().hex}",
        type=TYPES[fact.kind],
        created=int(now().timestamp()),
        order_id=order_id if is_session else None,
        attempt_id=attempt_id if is_session else None,
        session_id=session if is_session else None,
        payment_intent=intent,
        fact=fact,
    )


@dataclass
class Books:
    """One Checkout Session at Stripe: what was taken and given, and the reports of it."""

    order_id: UUID
    amount: int
    currency: str
    attempt_id: UUID | None = None
    session: str = field(default_factory=lambda: f"cs_{uuid4().hex}")
    intent: str = field(default_factory=lambda: f"pi_{uuid4().hex}")
    status: str = "open"
    taken: int = 0
    given: int = 0
    by_hand: int = 0
    refunds: dict[UUID, str] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)

    def tell(self, fact: Fact) -> None:
        self.reports.append(
            report_of(fact, self.order_id, self.session, self.intent, self.attempt_id)
        )

    def pay(self) -> None:
        """The customer pays."""
        self.status, self.taken = "complete", self.amount
        self.tell(captured(self.amount, self.currency))

    def fail(self) -> None:
        """A delayed payment comes to nothing."""
        self.status = "complete"
        self.tell(failed("The payment failed"))

    def expire(self) -> None:
        """Its time is over."""
        if self.status == "open":
            self.status = "expired"
            self.tell(expired())

    def give(self, amount: int, request: UUID | None = None) -> str:
        """Refund `amount`; the refund's id. Raises ProviderRefused for more than there is."""
        if request in self.refunds:
            return self.refunds[request]
        if self.given + amount > self.taken:
            raise ProviderRefused("The payment is refunded already", None, "refused")
        self.given += amount
        self.by_hand += amount if request is None else 0
        id = f"re_{uuid4().hex}"
        if request:
            self.refunds[request] = id
        self.tell(refund(id, amount, "succeeded", request and str(request)))
        self.tell(refunded_in_all(self.given))
        return id


class Bank:
    """Stripe as `Calls` meets it, with the books of every session."""

    def __init__(self) -> None:
        self.books: list[Books] = []

    async def create_session(self, wanted: Checkout) -> Session:
        for books in self.books:
            if books.attempt_id == wanted.attempt_id:
                return _session(books)
        total = sum(line.quantity * line.unit_minor for line in wanted.lines)
        books = Books(wanted.order_id, total, wanted.currency, wanted.attempt_id)
        self.books.append(books)
        return _session(books)

    async def expire_session(self, session_id: str) -> Session:
        (books,) = [one for one in self.books if one.session == session_id]
        books.expire()
        return _session(books)

    async def refund(
        self, refund_id: UUID, order_id: UUID, payment_intent: str, amount_minor: int
    ) -> Refund:
        (books,) = [one for one in self.books if one.intent == payment_intent]
        id = books.give(amount_minor, refund_id)
        return Refund(id, "succeeded", amount_minor, books.currency)


def _session(books: Books) -> Session:
    url = f"https://stripe.example/{books.session}" if books.status == "open" else None
    return Session(books.session, url, books.status, None)


class Course:
    """One order, and all that can happen to it."""

    def __init__(self, database: Database, order_id: UUID) -> None:
        self.database, self.order_id = database, order_id
        self.bank = Bank()
        self.calls = Calls(database, self.bank)
        self.arrived: dict[str, Report] = {}
        self._handled: set[tuple[Any, Any]] = set()

    def in_transit(self) -> list[Report]:
        """Reports that have not arrived yet."""
        told = [report for books in self.bank.books for report in books.reports]
        return [report for report in told if report.event_id not in self.arrived]

    async def arrive(self, report: Report) -> None:
        """A report arrives."""
        self.arrived[report.event_id] = report
        await stripe_events.record(self.database, report, b"{}", "a webhook")

    async def waiting(self) -> list[tuple[Any, Any, Event]]:
        """Handler by event that it has not handled."""
        rows = await self._fetch("select event_id, topic, payload from outbox where order_id = $1")
        return [
            (row["event_id"], handle, read_event(record, row["payload"].encode()))
            for row in rows
            for record, handle in HANDLERS
            if row["topic"] == record.topic_name and (row["event_id"], handle) not in self._handled
        ]

    async def handle(self, event_id: Any, handle: Any, event: Event) -> None:
        """An agent handles an event."""
        async with self.database.transaction() as transaction:
            await handle(transaction, [event])
        self._handled.add((event_id, handle))

    async def call(self) -> int:
        """Make the calls that are due, those included that wait to be tried again; how many."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update provider_calls set due_at = now() where done_at is null"
            )
        started = await self.calls.start_due()
        for task in started:
            await task
        return len(started)

    async def pay(self) -> None:
        """The customer pays through the internal provider, if that may be."""
        try:
            await payments.request_payment(
                self.database, ANN, self.order_id, None, None, None, "pay"
            )
        except (NotPayable, PaymentInProgress):
            pass

    async def check_out(self) -> None:
        """The customer asks for a checkout, if that may be."""
        try:
            await checkout.request_checkout(self.database, ANN, self.order_id, None, "check out")
        except (NotPayable, PaymentInProgress):
            pass

    async def cancel(self) -> None:
        """The customer cancels, if that may be."""
        try:
            await cancel(self.database, self.order_id)
        except NotCancellable:
            pass

    async def expire(self) -> None:
        """The time to pay is over."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update order_deadlines set due_at = now() - interval '1 s' where order_id = $1",
                self.order_id,
            )
        await expire_due(self.database, now() + timedelta(seconds=1))

    async def come_to_rest(self) -> None:
        """All that waits happens; an order that then waits for money in vain expires."""
        for _ in range(MOST_ROUNDS):
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
        (row,) = await self._fetch("select status from orders where id = $1")
        return str(row["status"])

    async def payments(self) -> list[Any]:
        return await self._fetch("select * from payments where order_id = $1 order by created_at")

    async def topics(self) -> list[str]:
        query = "select topic from outbox where order_id = $1 order by sequence"
        return [row["topic"] for row in await self._fetch(query)]

    async def _fetch(self, query: str) -> list[Any]:
        async with self.database.connection() as connection:
            return list(await connection.fetch(query, self.order_id))
