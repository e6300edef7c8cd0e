"""A world of one order: providers with books of their own, the reports they send, and the ledger.

What is in transit, published or to be asked waits until a test lets it happen.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

from hypothesis import strategies as st

from app.ledger import Fact, captured, expired, failed, money_of, refund, refunded_in_all
from app.lifecycle import Order, PaymentStatus, Status
from app.settlement import (
    Account,
    Cancel,
    Fail,
    Return,
    Step,
    Succeed,
    note,
    settle,
)

TOTAL, CURRENCY = 9999, "PLN"


@dataclass
class Books:
    """What a provider truly did for one payment, and the reports of it, in true order."""

    amount: int = TOTAL
    currency: str = CURRENCY
    taken: int = 0
    given: int = 0
    by_hand: int = 0
    """Refunded by a person, in Stripe's dashboard."""
    reports: list[Fact] = field(default_factory=list)

    def take(self) -> None:
        """The customer pays."""
        self.taken = self.amount
        self.reports.append(captured(self.amount, self.currency))

    def give(self, id: str, amount: int, request_id: str | None, fails: bool) -> bool:
        """Refund `amount`; whether it was accepted. One that fails is accepted before."""
        if self.given + amount > self.taken:
            return False
        self.given += amount
        self.reports.append(refund(id, amount, "pending", request_id))
        self.reports.append(refunded_in_all(self.given))
        if fails:
            self.given -= amount
        self.reports.append(refund(id, amount, "failed" if fails else "succeeded", request_id))
        return True


@st.composite
def histories(draw: st.DrawFn) -> list[Books]:
    """What one or two Stripe sessions went through by themselves: up to six reports in all."""
    sessions: list[Books] = []
    for number in range(draw(st.integers(1, 2))):
        books = Books(
            draw(st.sampled_from([TOTAL, TOTAL, TOTAL - 1, TOTAL + 1])),
            draw(st.sampled_from([CURRENCY, CURRENCY, "EUR"])),
        )
        course = draw(st.sampled_from(["paid", "paid twice told", "failed", "expired", "refunded"]))
        if course == "failed":
            books.reports.append(failed("The payment failed"))
        elif course == "expired":
            books.reports.append(expired())
        else:
            books.take()
        if course == "paid twice told":
            books.reports *= 2
        if course == "refunded" and sum(len(one.reports) for one in sessions) < 3:
            part = draw(st.sampled_from([books.amount, books.amount // 2]))
            books.give(f"re_dashboard_{number}", part, None, draw(st.booleans()))
            books.by_hand = books.given
        sessions.append(books)
    return sessions


class World:
    """One order, its payments, and what has not been delivered yet."""

    def __init__(self, sessions: list[Books], first_is_ours: bool) -> None:
        self.order = Order(
            uuid4(), uuid4(), Status.CREATED, 1, TOTAL, CURRENCY, None, None, datetime.now(UTC)
        )
        self.books: dict[UUID, Books] = {}
        self.known: dict[UUID, list[Fact]] = {}
        self.accounts: dict[UUID, Account] = {}
        self.in_transit: list[tuple[UUID, Fact]] = []
        self.messages: list[Step | str] = []
        self.calls: list[tuple[Return, str]] = []
        self.numbers = count()
        for number, books in enumerate(sessions):
            payment = uuid4()
            self.books[payment] = books
            self.in_transit += [(payment, fact) for fact in books.reports]
            if number == 0 and first_is_ours:
                self.accounts[payment] = Account(payment, PaymentStatus.PENDING)

    def deliver(self, payment: UUID, fact: Fact) -> None:
        """A report arrives: recompute the payment from all of them, and settle."""
        # Money of a session that we have no attempt for counts too.
        account = self.accounts.setdefault(payment, Account(payment, PaymentStatus.VOIDED))
        self.known.setdefault(payment, []).append(fact)
        account.learn(money_of(self.known[payment]))
        self.settle()

    def waiting(self) -> list[str]:
        """What can still happen by itself."""
        queues = {"deliver": self.in_transit, "handle": self.messages, "ask": self.calls}
        return [name for name, queue in queues.items() if queue]

    def ends(self) -> list[tuple[Account, Books]]:
        """What we think of each payment, and what the provider did."""
        return [(account, self.books[id]) for id, account in self.accounts.items()]

    def settle(self) -> None:
        order, accounts = self.order, list(self.accounts.values())
        for step in settle(order.status, order.total_minor, order.currency, accounts):
            self.take(step)
        assert settle(order.status, order.total_minor, order.currency, accounts) == []

    def take(self, step: Step) -> None:
        if isinstance(step, Cancel):
            self.order.become(Status.CANCELLED, step.reason)
            return
        request = f"request {next(self.numbers)}"
        note(self.accounts[step.payment], step, request)
        if isinstance(step, Succeed | Fail):
            self.messages.append(step)
        elif isinstance(step, Return):
            self.calls.append((step, request))

    def handle(self, message: Step | str, in_stock: bool) -> None:
        """What the agents do with what was published."""
        order = self.order
        holds = any(a.status is PaymentStatus.SUCCEEDED for a in self.accounts.values())
        match message:
            case Succeed() if order.status is Status.CREATED:
                order.become(Status.PAID)
                self.messages.append("order.paid")
            case Fail() if order.status is Status.CREATED and not holds:
                self.cancel()
            case "order.paid" if order.status is Status.PAID and in_stock:
                self.complete()
            case "order.paid" if order.status is Status.PAID:
                self.cancel()

    def complete(self) -> None:
        kept = [one for one in self.accounts.values() if one.status is PaymentStatus.SUCCEEDED]
        assert [one.money.staying_minor for one in kept] == [TOTAL], "nothing ships unpaid"
        self.order.become(Status.COMPLETED)
        self.settle()

    def cancel(self) -> None:
        """The customer cancels, the order expires, or it is out of stock."""
        if self.order.may_become(Status.CANCELLED):
            self.order.become(Status.CANCELLED, "why")
            self.settle()

    def pay(self) -> None:
        """The customer pays through the internal provider, which captures at once."""
        live = (PaymentStatus.PENDING, PaymentStatus.SUCCEEDED)
        free = not any(one.status in live for one in self.accounts.values())
        if self.order.status is Status.CREATED and free:
            payment = uuid4()
            self.accounts[payment] = Account(payment, PaymentStatus.PENDING)
            self.books[payment] = Books()
            self.books[payment].take()
            self.deliver(payment, self.books[payment].reports[0])

    def ask(self, call: tuple[Return, str], fails: bool) -> None:
        """The refund call: the provider's answer is a report like any other."""
        step, request = call
        books = self.books[step.payment]
        before = len(books.reports)
        if books.give(f"re_{request}", step.amount_minor, request, fails):
            self.in_transit += [(step.payment, fact) for fact in books.reports[before:]]
        else:
            self.accounts[step.payment].refused.add(request)
            self.settle()
